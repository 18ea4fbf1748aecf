"""Models: fit(examples), predict(rows) -> quantiles. Pure, seeded, saved without code."""
