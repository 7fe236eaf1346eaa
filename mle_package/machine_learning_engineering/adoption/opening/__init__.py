"""Opening files of fitted models, whoever wrote them."""

from machine_learning_engineering.adoption.opening.answers import Answers
from machine_learning_engineering.adoption.opening.refusal import ModelRefused
from machine_learning_engineering.adoption.opening.source import OpenedModel, open_model

__all__ = ["Answers", "ModelRefused", "OpenedModel", "open_model"]
