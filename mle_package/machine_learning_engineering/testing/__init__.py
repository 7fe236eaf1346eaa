"""Contract checks for models and prediction logs. ``__init__.pyi`` lists the public names.

`check_model` and `parametrize_with_checks` are names of `machine_learning_engineering`.
"""

from machine_learning_engineering.core.lazy import lazy_exports

__all__, __getattr__ = lazy_exports(__name__, __file__)
