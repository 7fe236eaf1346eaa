"""The models: one folder each, found by `model.catalog`."""
