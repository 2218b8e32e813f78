"""Hostile input: bytes, names and URLs that nobody should send, and other programs that write into asyncwb's keys."""
