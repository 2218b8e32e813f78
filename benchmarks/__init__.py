"""Measurements and the real data that they run on."""
