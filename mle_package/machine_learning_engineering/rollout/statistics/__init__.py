"""Statistics that hold however often anybody looks: for rates, for means, and for the populations of two arms. Pure."""
