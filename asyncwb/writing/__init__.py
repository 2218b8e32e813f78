"""A write on its way into Redis: its place in the order of calls, limits, numbered requests, and durability."""
