"""Grape of a wine from its chemistry: a model outside the product that uses only its public SDK."""

from ds_package.model import Wine

__all__ = ["Wine"]
