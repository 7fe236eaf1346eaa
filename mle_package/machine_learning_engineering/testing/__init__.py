"""Contract checks for models and prediction logs."""
