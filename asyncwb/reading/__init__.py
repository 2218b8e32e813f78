"""Reading keys, and waiting until the backend holds what was written (`flush` and `drain`)."""
