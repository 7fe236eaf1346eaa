"""The models, one folder a use case; each holds a subclass of `MLEModel`."""
