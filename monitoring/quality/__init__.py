"""Live quality: a model's own metrics on the newest labelled predictions of each version."""
