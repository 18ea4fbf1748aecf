"""Texts to scores: how good is what is written, from -1 to 1, told offline."""
