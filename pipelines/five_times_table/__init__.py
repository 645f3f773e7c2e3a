"""Models learn y = 5x and y = 10x, and score x that have no y."""
