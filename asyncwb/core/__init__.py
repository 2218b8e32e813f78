"""An open buffer: its partitions, the way of each key to one of them, and the lifetimes of all that runs."""
