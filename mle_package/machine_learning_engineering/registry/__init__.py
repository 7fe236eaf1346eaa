"""The model registry, in a folder or behind a URL."""
