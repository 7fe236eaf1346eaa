"""Opening of fitted model files."""

from machine_learning_engineering.adoption.opening.opened import ModelRefused, OpenedModel, open_model

__all__ = ["ModelRefused", "OpenedModel", "open_model"]
