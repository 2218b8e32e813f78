"""The real Buffer, pool and queue in a simulated world: every scheduling choice and every fault comes from a seed."""
