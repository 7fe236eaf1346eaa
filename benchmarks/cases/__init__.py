"""One module per case that is measured, see `catalog`."""
