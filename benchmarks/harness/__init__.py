"""Takes turns between contestants, on servers and places of its own, and compares commits and Pythons."""
