"""Models learn y = 5x and y = 10x, and score x that have no y.

`pipeline.py` has one model, `branch_pipeline.py` five beside ten, and `cascade_pipeline.py` five,
then ten.
"""
