"""A model learns y = 5x, and scores x that have no y."""
