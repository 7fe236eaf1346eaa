"""The feature store: offline, online, and training examples."""
