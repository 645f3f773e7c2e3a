"""Our engines and their clusters' own ways to score, side by side."""
