"""What the comparison has to ask the models, whose code is not known here."""

from typing import Protocol


class Losses(Protocol):
    """Knows the models; implemented outside of `monitoring`."""

    def loss(self, model: str, version: str, prediction: bytes, label: bytes) -> float | None:
        """How wrong a prediction is, by its label (JSON texts); smaller is better.

        None if the model is unknown, or one of the texts is not one of the model's.
        """

    def is_valid(self, model: str, version: str, prediction: bytes) -> bool:
        """Whether a prediction (JSON text) is one that the version may give: its numbers finite, and in their range."""
