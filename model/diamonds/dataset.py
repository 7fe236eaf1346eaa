"""Dataset of 53,940 diamonds with prices, known from ggplot2, as plotnine ships it."""

from collections.abc import Iterator
from pathlib import Path

from machine_learning_engineering import Example
from machine_learning_engineering.datasets import WheelDataset

DATASET = WheelDataset(
    package="plotnine",
    version="0.15.9",
    member="plotnine/data/diamonds.csv",
    sha256="36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
    licence="MIT",
)
_TEXTS = {"cut", "color", "clarity"}
_LABEL = "price"


def examples(data_dir: Path | None = None) -> Iterator[Example]:
    """All diamonds in the order of the file; the label is the price in US dollars."""
    for row in DATASET.rows(data_dir):
        label = float(row.pop(_LABEL))
        yield Example({name: text if name in _TEXTS else float(text) for name, text in row.items()}, label)
