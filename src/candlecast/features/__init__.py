"""Pure functions from prices to one column of numbers each, known at the bar they stand on."""
