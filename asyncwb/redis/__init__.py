"""Everything that knows Redis: keys, scripts, connections and the queue built on them."""
