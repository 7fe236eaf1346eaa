"""Kaggle's 891 passengers of the Titanic, with the values that are missing in it, as dataprep ships them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine_learning_engineering.datasets import WheelDataset
from machine_learning_engineering.model import Example

DATASET = WheelDataset(
    package="dataprep",
    version="0.4.5",
    member="dataprep/datasets/data/titanic.csv",
    sha256="646845fc602a95adec0311d89bcf70d260c6c269da3522af9c707887418e8f9c",
    licence="MIT",
)
# Each column that a request may have, and what its text means. PassengerId is a row number and says nothing.
_COLUMNS = {
    "Pclass": ("pclass", int),
    "Sex": ("sex", str),
    "Age": ("age", float),
    "SibSp": ("sibsp", int),
    "Parch": ("parch", int),
    "Fare": ("fare", float),
    "Embarked": ("embarked", str),
    "Name": ("name", str),
    "Ticket": ("ticket", str),
    "Cabin": ("cabin", str),
}


def examples(data_dir: Path | None = None) -> Iterator[Example]:
    """Every passenger in the order of the file; the label is True for a survivor. An empty cell becomes None."""
    for row in DATASET.rows(data_dir):
        features: dict[str, Any] = {
            name: convert(row[column]) if row[column] else None for column, (name, convert) in _COLUMNS.items()
        }
        yield Example(features, row["Survived"] == "1")
