"""A labelled sample: the file that a person names, as a frame, as rows, and as examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from machine_learning_engineering.adoption.frames import rows_of
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.extras import require
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["Sample", "UnreadableSample", "read_sample"]

MAX_ROWS = 20_000
"""Rows of a sample that are used; of a larger one, rows at even distances."""


class UnreadableSample(ValueError):
    """A sample can't be used. The message names the file and the fix."""


class Sample(NamedTuple):
    """Rows as the pipeline was fitted on; `labels` are None where the file has no column of the label."""

    frame: Any
    labels: list[Any] | None
    total: int

    def examples(self, features: Mapping[str, FeatureDeclaration]) -> list[Example]:
        """The rows with a label, as examples; a missing value is left out."""
        rows = rows_of(self.frame, features)
        return [
            Example({name: value for name, value in row.items() if value is not None}, label)
            for row, label in zip(rows, self.labels or (), strict=False)
            if label is not None
        ]


def read_sample(path: str, label: str) -> Sample:
    """Read a .csv, .parquet or .jsonl file.

    Raises:
        UnreadableSample: It is no such file, or empty.
        OSError: It can't be read.
        ImportError: The extra `adopt` is not installed.
    """
    pandas = require("pandas", "adopt")
    suffix = Path(path).suffix.lower()
    readers = {
        ".csv": lambda: pandas.read_csv(path),
        ".parquet": lambda: pandas.read_parquet(path),
        ".jsonl": lambda: pandas.read_json(path, lines=True, convert_dates=False),
    }
    if suffix not in readers:
        raise UnreadableSample(f"{path}: a sample ends with .csv, .parquet or .jsonl")
    try:
        frame = readers[suffix]()
    except OSError:
        raise
    except Exception as error:  # pandas and pyarrow raise many kinds.
        raise UnreadableSample(f"{path} can't be read: {type(error).__name__}: {error!s:.300}") from error
    total = len(frame)
    if not total:
        raise UnreadableSample(f"{path} has no rows")
    if total > MAX_ROWS:
        frame = frame.iloc[[index * total // MAX_ROWS for index in range(MAX_ROWS)]].reset_index(drop=True)
    if label not in frame.columns:
        return Sample(frame, None, total)
    column = frame.pop(label)
    labels = [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]
    return Sample(frame, labels, total)
