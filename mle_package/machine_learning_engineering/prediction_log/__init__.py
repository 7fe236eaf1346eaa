"""Prediction logs: the interface, a SQLite store, parquet export and logging at predict time.

``__init__.pyi`` lists the public names.
"""

from machine_learning_engineering.core.lazy import lazy_exports

__all__, __getattr__ = lazy_exports(__name__, __file__)
