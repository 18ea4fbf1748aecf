"""From a forecast to an action: pure functions of a distribution, no prices, no orders."""
