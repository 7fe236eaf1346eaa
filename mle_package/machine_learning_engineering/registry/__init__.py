"""The model registry on disk."""
