"""Tools of asyncio that know nothing of writes and flushes."""
