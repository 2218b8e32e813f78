"""From Redis to the backend: the pool of flushers, their saves, and how failed saves are handled."""
