"""General tools, mostly for asyncio, that know nothing about writes and flushes."""
