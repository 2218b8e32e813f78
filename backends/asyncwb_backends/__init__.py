"""First-party backends: plugins like anybody else's, found through entry points."""
