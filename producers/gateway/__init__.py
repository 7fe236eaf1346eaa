"""The gateway: predictions over HTTP on the same stream. It knows events and the registry's files, and no models."""
