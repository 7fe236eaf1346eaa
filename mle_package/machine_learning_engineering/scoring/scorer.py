"""A version of a model that scores rows as the worker does; a callable that engines of several machines can ship."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from machine_learning_engineering.core.column_map import Requests, encode_rows, map_columns, rows_of_columns
from machine_learning_engineering.core.faults import FAULT_SECONDS
from machine_learning_engineering.core.frames import check_names, frame_values
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.prediction_log.frames import predictions_frame
from machine_learning_engineering.prediction_log.rows import Request, ScoredRow, score_rows
from machine_learning_engineering.registry.manifest import Manifest
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.storage.location import Place, parse_place

if TYPE_CHECKING:
    import pandas

__all__ = ["Scorer"]

BATCH_ROWS = 8_192
"""Rows that are predicted at once."""


class Scorer:
    """Scores rows with one version of a model, with the answers of the stream.

    It can be pickled: another process opens the version again, from the same registry, once. So it is what an engine
    such as Dask, Spark or Ray maps over its partitions::

        scorer = Scorer("fraud@champion", registry=Path.home() / ".inflight/registry", model_class=Fraud)
        scored = frame.map_partitions(scorer, meta=scorer(frame.head(0)))

    Args:
        model: Name or URI of the model, such as ``fraud``, ``fraud:v3`` or ``fraud@champion``. The version is looked up
            now: a later promotion changes nothing.
        registry: Folder or URL of the registry; on several machines, one that all of them reach.
        model_class: The model's class, which the other processes can import.
        keep: Columns of a frame that its result repeats; by default those that are no features.
        batch_rows: Rows that are predicted at once.

    Raises:
        RegistryError: There is no such version.
    """

    def __init__(
        self,
        model: str,
        *,
        registry: Place | str,
        model_class: type[Model],
        keep: Sequence[str] | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        place = parse_place(registry)
        self.registry = place.absolute() if isinstance(place, Path) else place
        self._opener = _importable(model_class)
        self.name, self.version = Registry(self.registry).locate(model, CHAMPION)
        self.keep = keep
        self.batch_rows = batch_rows
        # Before another process is told of a version that can't be opened.
        model_class = self.model_class
        declared = Registry(self.registry).declaration(self.name, self.version)
        self.feature_paths = dict(model_class.feature_paths)
        if declared is not None:
            features = parse_declaration(declared).features
            self.feature_paths |= {name: one.from_ for name, one in features.items() if one.from_}

    @property
    def model(self) -> Model:
        """The model; opened once in each process."""
        return _opened(self.registry, self.name, self.version, self._opener)

    @property
    def model_class(self) -> type[Model]:
        """The class of the version; of an adopted model, the one that its declaration makes."""
        return type(self.model)

    def manifest(self) -> Manifest:
        """The manifest of the version."""
        return Registry(self.registry).manifest(self.name, self.version)

    def score(self, requests: Sequence[Request]) -> list[ScoredRow]:
        """Score requests in batches, in order. A row that is refused, or that makes `predict` raise, has an error.

        Raises:
            MachineFaultError: The model raised a fault of the machine, such as a locked database, for 30 s.
        """
        found: list[ScoredRow] = []
        for start in range(0, len(requests), self.batch_rows):
            batch = requests[start : start + self.batch_rows]
            # A million failures are a million rows with an error, not as many warnings.
            found += score_rows(self.model, batch, FAULT_SECONDS, max_bytes=MEBIBYTE, log_failures=False)
        return found

    def __call__(self, frame: "pandas.DataFrame") -> "pandas.DataFrame":
        """Score the rows of a data frame.

        Returns:
            A frame with the same index: the kept columns, the fields of the prediction, such as ``prediction.price``,
            and `error_type` and `error_message` of the rows without one. Its types do not depend on the values.

        Raises:
            InvalidTable: A required feature has no column, or two columns have one name.
        """
        names = check_names(frame)
        found = map_columns(self.model_class.Features, names, self.feature_paths)
        found.require(self.name)
        kept = found.kept(self.keep)
        rows: Requests = encode_rows(
            rows_of_columns(self.model_class.Features, found, frame_values(frame, found.columns), len(frame))
        )
        scored = self.score(rows)
        answers = predictions_frame(
            self.model_class,
            [row.prediction for row in scored],
            [row.error or None for row in scored],
            index=frame.index,
        )
        for position, name in enumerate(kept):
            answers.insert(position, name, frame.iloc[:, names.index(name)].array)
        return answers

    def map(self, frames: "Iterable[pandas.DataFrame]") -> "Iterator[pandas.DataFrame]":
        """Score frames one after the other, as Spark's ``mapInPandas`` calls it."""
        return map(self, frames)


@lru_cache(maxsize=4)
def _opened(registry: Place, name: str, version: str, model_class: type[Model]) -> Model:
    return Registry(registry).open(name, version, model_class=model_class)


def _importable(model_class: type[Model]) -> type[Model]:
    """The class, or, of one that was made of a declaration, the base that opens it: pickles name classes to import."""
    for one in model_class.__mro__:
        found: Any = sys.modules.get(one.__module__)
        for name in one.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is one and issubclass(one, Model):
            base: type[Model] = one
            return base
    return model_class
