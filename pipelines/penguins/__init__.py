"""Classifiers learn the species of penguins, and score birds whose species was held back.

`pipeline.py` has one model, `cascade_pipeline.py` a small one before it.
"""
