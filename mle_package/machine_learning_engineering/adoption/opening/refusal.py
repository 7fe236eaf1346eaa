"""Why a file is not opened."""

__all__ = ["Malformed", "ModelRefused", "NotAllowed"]


class ModelRefused(ValueError):
    """A model can't be adopted. The message names what was asked for and the fix."""


class Malformed(Exception):
    """The bytes are not what they should be."""


class NotAllowed(Exception):
    """A file asks for something that is not on the list. The message names it."""
