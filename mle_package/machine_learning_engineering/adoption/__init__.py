"""Adoption of fitted models: their files, their schema, and the class that serves them."""
