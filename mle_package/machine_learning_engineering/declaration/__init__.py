"""Declarations: what a model without a class is, where its events come from, and where its results go."""
