"""What is known of a key and of a write: reads, and waiting until the backend holds what was written."""
