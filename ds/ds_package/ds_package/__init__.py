"""Which grape a wine was made of, from its chemistry: a model outside the product, on its public SDK alone."""

from ds_package.model import Wine

__all__ = ["Wine"]
