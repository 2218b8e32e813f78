"""What asyncwb keeps in Redis: its keys, the byte format of its records, and the Lua scripts that change them."""
