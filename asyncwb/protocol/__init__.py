"""What asyncwb keeps in Redis: its keys, the bytes of its records, and the steps that change them, as Lua scripts."""
