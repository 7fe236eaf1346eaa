"""Dataset of Kaggle's 891 Titanic passengers, with its missing values, as dataprep ships it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from machine_learning_engineering import Example
from machine_learning_engineering.datasets import WheelDataset

DATASET = WheelDataset(
    package="dataprep",
    version="0.4.5",
    member="dataprep/datasets/data/titanic.csv",
    sha256="646845fc602a95adec0311d89bcf70d260c6c269da3522af9c707887418e8f9c",
    licence="MIT",
)
# Feature and type of each column. PassengerId is a row number without information.
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
    """All passengers in the order of the file; the label is True for a survivor, an empty cell is None."""
    return map(example, DATASET.rows(data_dir))


def example(line: Mapping[str, str]) -> Example:
    """Convert a line with Kaggle's columns.

    Raises:
        ValueError: A cell is not a number, or ``Survived`` is neither 0 nor 1.
        KeyError: There is no column ``Survived``. Other columns may be missing; the schema checks required features.
    """
    features: dict[str, Any] = {}
    for column, (name, convert) in _COLUMNS.items():
        try:
            features[name] = convert(line[column]) if line.get(column) else None
        except ValueError as error:
            raise ValueError(f"column {column}: {error}") from error
    if line["Survived"] not in ("0", "1"):
        raise ValueError(f"column Survived: {line['Survived']!r} is neither 0 nor 1")
    return Example(features, line["Survived"] == "1")
