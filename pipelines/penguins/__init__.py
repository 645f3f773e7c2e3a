"""Classifiers learn the species of penguins, and score birds whose species was held back."""
