"""Live quality of model versions."""
