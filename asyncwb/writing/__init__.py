"""How a write gets into Redis: admission at the limits, numbered requests, and confirmation of durability."""
