"""A private Valkey server for "no Redis at hand"."""
