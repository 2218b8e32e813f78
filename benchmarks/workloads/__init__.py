"""What is written, by whom and when, and whether all of it has arrived."""
