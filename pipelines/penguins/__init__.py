"""A classifier learns the species of penguins, and scores birds whose species was held back."""
