"""Dataset of Kaggle's 891 Titanic passengers, with its missing values, as dataprep ships it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from machine_learning_engineering import Example
from machine_learning_engineering.core.csv_row import label_of_cell, value_of
from machine_learning_engineering.datasets import WheelDataset
from model.titanic.features import PassengerFeatures

DATASET = WheelDataset(
    package="dataprep",
    version="0.4.5",
    member="dataprep/datasets/data/titanic.csv",
    sha256="646845fc602a95adec0311d89bcf70d260c6c269da3522af9c707887418e8f9c",
    licence="MIT",
)
# Feature of each column. PassengerId is a row number without information.
_COLUMNS = {
    "Pclass": "pclass",
    "Sex": "sex",
    "Age": "age",
    "SibSp": "sibsp",
    "Parch": "parch",
    "Fare": "fare",
    "Embarked": "embarked",
    "Name": "name",
    "Ticket": "ticket",
    "Cabin": "cabin",
}
_TYPES = {field.encode_name: field.type for field in msgspec.structs.fields(PassengerFeatures)}
_NUMBERS = frozenset({"pclass", "age", "sibsp", "parch", "fare"})


def examples(data_dir: Path | None = None) -> Iterator[Example]:
    """All passengers in the order of the file; the label is True for a survivor, an empty cell is None."""
    return map(example, DATASET.rows(data_dir))


def example(line: Mapping[str, str]) -> Example:
    """Convert a line with Kaggle's columns.

    Raises:
        ValueError: A cell is not a number, or ``Survived`` is neither 0 nor 1 nor a boolean.
        KeyError: There is no column ``Survived``. Other columns may be missing; the schema checks required features.
    """
    features: dict[str, Any] = {}
    for column, name in _COLUMNS.items():
        features[name] = value_of(line[column], _TYPES[name]) if line.get(column) else None
        if name in _NUMBERS and isinstance(features[name], str):
            raise ValueError(f"column {column}: {features[name]!r} is not a number")
    survived = label_of_cell(line["Survived"], bool)
    if not isinstance(survived, bool):
        raise ValueError(f"column Survived: {line['Survived']!r} is neither 0 nor 1")
    return Example(features, survived)
