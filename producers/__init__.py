"""Publishing prediction requests and labels. This package knows events and no models."""
