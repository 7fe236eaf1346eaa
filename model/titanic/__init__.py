"""Whether a passenger of the Titanic survived."""

from model.titanic.model import Titanic

MODEL = Titanic

__all__ = ["MODEL", "Titanic"]
