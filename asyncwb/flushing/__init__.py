"""From Redis to the backend: the pool of flushers, their saves, and what the failure of one means."""
