"""The first-party backends. Like third-party plugins, they are found through entry points."""
