"""Price of a diamond from its weight, grades and measures."""

from model.diamonds.model import Diamonds

MODEL = Diamonds

__all__ = ["MODEL", "Diamonds"]
