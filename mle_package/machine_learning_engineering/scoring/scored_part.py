"""The rows of a part: scored, written, refused, and sampled for metrics."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.csv_row import label_of_cell, label_of_value
from machine_learning_engineering.prediction_log.rows import ScoredRow
from machine_learning_engineering.scoring.chunks import Chunk
from machine_learning_engineering.scoring.columns import plain_values
from machine_learning_engineering.scoring.inputs import InputFile
from machine_learning_engineering.scoring.journal import Labelled
from machine_learning_engineering.scoring.parts import PartWriter, refused_line
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.records import decode_label

UNREADABLE = "unreadable"
"""Type of the error of a line that is no row."""


class ScoredPart:
    """The rows of a part so far."""

    def __init__(self, scorer: Scorer, label: str, file: InputFile) -> None:
        self._scorer = scorer
        self._label = label
        self._file = file
        self.rows = 0
        self.refused: list[bytes] = []
        self.reasons: Counter[str] = Counter()
        self.labelled: list[Labelled] = []

    def add(self, writer: PartWriter, chunk: Chunk) -> None:
        """Score a chunk and write it."""
        self.rows += len(chunk.numbers)
        readable = [index for index, request in enumerate(chunk.requests) if request is not None]
        answers = self._scorer.score([chunk.requests[index] for index in readable])
        rows = dict(zip(readable, answers, strict=True))
        scored: list[tuple[int, ScoredRow]] = []
        for index in range(len(chunk.numbers)):
            row = rows.get(index)
            if row is None:
                self._refuse(chunk, index, UNREADABLE, chunk.malformed[index])
            elif row.error:
                self._refuse(chunk, index, row.error.type, row.error.message)
            else:
                scored.append((index, row))
        writer.write(self._file.path, chunk, scored)
        if self._label and self._label in chunk.kept:
            self._sample(chunk, scored)

    def _refuse(self, chunk: Chunk, index: int, kind: str, message: str) -> None:
        self.refused.append(refused_line(self._file.path, chunk, index, kind, message))
        self.reasons[message] += 1

    def _sample(self, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> None:
        values = plain_values(chunk.kept[self._label], [index for index, _ in scored])
        wanted = self._scorer.model_class.Label
        for (index, row), value in zip(scored, values, strict=True):
            try:
                if isinstance(value, Raw):
                    label = decode_label(wanted, value)
                else:
                    convert = label_of_cell if self._file.format == "csv" else label_of_value
                    label = decode_label(wanted, convert(value, wanted))
            except (ValueError, TypeError):
                continue
            where = f"{self._file.path}\0{chunk.numbers[index]}".encode()
            draw = int.from_bytes(blake2b(where, digest_size=7).digest())
            plain: Any = msgspec.to_builtins(row.prediction)
            self.labelled.append(Labelled(draw, plain, msgspec.to_builtins(label)))
