"""Public surface of the SDK. ``__init__.pyi`` lists its names; a name's module is imported when it is first used.

The submodules that the documentation names are public too: `evaluation.metrics`, `feature_store` and `testing`.
"""

from machine_learning_engineering.core.lazy import lazy_exports
from machine_learning_engineering.core.version import __version__ as __version__

__all__, __getattr__ = lazy_exports(__name__, __file__)
