"""What things are: markets, frames, distributions, specs and the shapes one can plug in."""
