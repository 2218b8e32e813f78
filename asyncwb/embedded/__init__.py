"""A private Valkey server, for when no Redis server is available."""
