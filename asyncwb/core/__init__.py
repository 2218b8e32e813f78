"""What an open buffer consists of: its partitions, the routing of keys to them, and all background work."""
