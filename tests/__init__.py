"""Tests, by what they need: nothing, a server, a database, or minutes."""
