"""The contract checks of models: those of requests first, then those of predictions.

A check calls only public methods of the model, so it applies to any subclass of `MLEModel`. Each check looks for one
kind of fault, so that a fault is reported once.
"""

from machine_learning_engineering.testing import prediction_checks, request_checks
from machine_learning_engineering.testing.case import CHECKS

__all__ = ["CHECKS", "prediction_checks", "request_checks"]
