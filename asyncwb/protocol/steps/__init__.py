"""The steps of the protocol: methods that run the scripts of `lua/steps`, a class for each role that takes them."""
