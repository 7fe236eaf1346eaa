"""Scoring of files: bounded memory, atomic parts, and the same output however often it is interrupted."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.evaluation.estimates import Estimate, bootstrap_estimate
from machine_learning_engineering.registry.skops_file import MODEL_FILE
from machine_learning_engineering.scoring import columns, journal
from machine_learning_engineering.scoring.chunks import Chunk, ChunkReader
from machine_learning_engineering.scoring.inputs import InputFile, find_inputs
from machine_learning_engineering.scoring.journal import Journal, Labelled, OutputFormat, PartRecord, RunRecord
from machine_learning_engineering.scoring.kept import kept_columns
from machine_learning_engineering.scoring.parts import open_part
from machine_learning_engineering.scoring.scored_part import ScoredPart
from machine_learning_engineering.scoring.scorer import Scorer
from machine_learning_engineering.training.records import decode_label

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ScoringReport", "score_files"]

PART_BATCHES = 16
"""Batches in a part, which is what a crash loses at most."""
MAX_LABELLED = 10_000
"""Labelled rows that metrics are computed of: a random sample of all."""
_MAX_REASONS = 100

ProgressCallback = Callable[[float, int], None]
"""Called with the part of the input that is done, between 0 and 1, and the number of rows."""


class ScoringReport(Struct, frozen=True, kw_only=True):
    """What was scored. `rows` = `scored` + `refused`, of which `resumed` were there before.

    `features` has the column of each feature, `absent` the optional features without a column in any input, `kept` the
    columns carried through, `reasons` the number of refused rows by message, most frequent first. `metrics` are those
    of `labelled` rows, a random sample of the rows with a label.
    """

    model: str
    version: str
    output: str
    inputs: int
    rows: int
    scored: int
    refused: int
    resumed: int
    reasons: dict[str, int]
    features: dict[str, str]
    absent: list[str]
    kept: list[str]
    labelled: int
    metrics: dict[str, Estimate]
    seconds: float


def score_files(
    scorer: Scorer,
    sources: Sequence[str],
    output: Path,
    *,
    format: OutputFormat = "parquet",
    label: str = "",
    resume: bool = True,
    on_progress: ProgressCallback = lambda done, rows: None,
) -> ScoringReport:
    """Score the rows of files into a folder.

    The folder gets parts of ``16 * scorer.batch_rows`` rows, refused rows in ``_refused/`` with position and reason,
    and a manifest. Rows are in the order of the input. What is finished is not scored again.

    Args:
        scorer: The model, the columns to keep, and the number of rows that are in memory.
        sources: Paths, folders, patterns and URLs, see `inputs.find_inputs`.
        output: A folder; made if it is missing.
        format: Format of the parts.
        label: Column with the true values; it is carried through, and metrics are computed.
        resume: Whether to continue what was begun in the folder. False removes its parts first.
        on_progress: Called after each batch.

    Raises:
        InputRefused: An input is missing, damaged, or has no column for a required feature.
        OutputRefused: The folder has other files, or another scoring was begun there.
        MachineFaultError: The model raised a fault of the machine for 30 s. Call again to continue.
        OSError: A file can't be written. Call again to continue.
        ImportError: pyarrow is not installed.
    """
    return _Run(scorer, find_inputs(sources), output, format, label, on_progress).run(resume)


class _Run:
    def __init__(
        self,
        scorer: Scorer,
        inputs: list[InputFile],
        output: Path,
        format: OutputFormat,
        label: str,
        on_progress: ProgressCallback,
    ) -> None:
        self._scorer = scorer
        self._inputs = inputs
        self._label = label
        self._on_progress = on_progress
        self._reader = ChunkReader(scorer.model_class, scorer.feature_paths, scorer.batch_rows)
        self._layouts = [self._reader.layout(file) for file in inputs]
        kept = kept_columns(inputs, self._layouts, scorer.keep, label)
        self._schema: pa.Schema = columns.output_schema(scorer.model_class, kept)
        self._kept = list(kept)
        manifest = scorer.manifest()
        run = RunRecord(
            model=scorer.name,
            version=scorer.version,
            model_sha256=manifest.files[MODEL_FILE].sha256,
            inputs=inputs,
            format=format,
            keep=None if scorer.keep is None else list(scorer.keep),
            kept=self._kept,
            label=label,
            batch_rows=scorer.batch_rows,
            part_rows=scorer.batch_rows * PART_BATCHES,
        )
        self._journal = Journal(output, run)
        self._bytes = max(1, sum(file.size for file in inputs))
        self._before = 0
        self._rows = 0

    def run(self, resume: bool) -> ScoringReport:
        started = time.monotonic()
        with self._journal.opened(resume=resume), _short_collections():
            finished = self._journal.finished()
            self._rows = sum(record.rows for record in finished)
            resumed = self._rows
            for number, file in enumerate(self._inputs):
                mine = _unbroken([one for one in finished if one.input == number])
                if not mine or not mine[-1].last:
                    self._score_file(number, file, mine[-1].first + mine[-1].rows if mine else 0)
                self._before += file.size
                self._on_progress(self._before / self._bytes, self._rows)
            report = self._report(self._journal.finished(), resumed, time.monotonic() - started)
            files.replace(
                self._journal.folder / journal.SUMMARY, msgspec.json.format(msgspec.json.encode(report), indent=2)
            )
        return report

    def _score_file(self, number: int, file: InputFile, start: int) -> None:
        layout = self._layouts[number]

        def report(done: float) -> None:
            self._on_progress((self._before + done * file.size) / self._bytes, self._rows)

        chunks = self._reader.chunks(file, layout, self._kept, start, report)
        chunk = next(chunks, None)
        while True:
            chunk = self._write_part(number, file, start, chunk, chunks)
            if chunk is None:
                return
            start += self._journal.run.part_rows

    def _write_part(
        self, number: int, file: InputFile, first: int, chunk: Chunk | None, chunks: Iterator[Chunk]
    ) -> Chunk | None:
        """Write the part that begins with a chunk; return the chunk that follows it, None at the end of the input."""
        run, name = self._journal.run, journal.part_name(number, first)
        path = self._journal.folder / f"{name}.{run.format}"
        part = ScoredPart(self._scorer, self._label, file)
        with files.replacing(path) as partial, open_part(partial, run.format, self._schema, run.version) as writer:
            while chunk is not None and part.rows < run.part_rows:
                part.add(writer, chunk)
                self._rows += len(chunk.numbers)
                chunk = next(chunks, None)
        self._journal.write_refused(name, part.refused)
        self._journal.finish(
            PartRecord(
                input=number,
                first=first,
                rows=part.rows,
                refused=len(part.refused),
                size=path.stat().st_size,
                last=chunk is None,
                reasons=dict(part.reasons.most_common(_MAX_REASONS)),
                labelled=nsmallest(MAX_LABELLED, part.labelled, key=lambda one: one.draw),
            )
        )
        return chunk

    def _report(self, records: Sequence[PartRecord], resumed: int, seconds: float) -> ScoringReport:
        reasons: Counter[str] = Counter()
        for record in records:
            reasons.update(record.reasons)
        rows, refused = sum(one.rows for one in records), sum(one.refused for one in records)
        sample = nsmallest(
            MAX_LABELLED, (one for record in records for one in record.labelled), key=lambda one: one.draw
        )
        found = [layout.found for layout in self._layouts]
        features = {name: ".".join([place.column, *place.steps]) for one in found for name, place in one.places.items()}
        return ScoringReport(
            model=self._scorer.name,
            version=self._scorer.version,
            output=str(self._journal.folder),
            inputs=len(self._inputs),
            rows=rows,
            scored=rows - refused,
            refused=refused,
            resumed=resumed,
            reasons=dict(reasons.most_common(_MAX_REASONS)),
            features=features,
            absent=sorted({name for one in found for name in one.absent} - features.keys()),
            kept=self._kept,
            labelled=len(sample),
            metrics=self._metrics(sample),
            seconds=round(seconds, 3),
        )

    def _metrics(self, sample: Sequence[Labelled]) -> dict[str, Estimate]:
        if not sample:
            return {}
        model = self._scorer.model
        predictions = [msgspec.convert(one.prediction, model.Prediction) for one in sample]
        labels = [decode_label(model.Label, one.label) for one in sample]
        try:
            return bootstrap_estimate(model, predictions, labels, seed=0)
        except ValueError:  # Undefined for these labels, such as those of one class.
            return {}


@contextmanager
def _short_collections() -> Iterator[None]:
    """Leave what is in memory now out of garbage collections, which rows by the million would start again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _unbroken(records: Sequence[PartRecord]) -> list[PartRecord]:
    """The parts of an input up to the first gap."""
    found: list[PartRecord] = []
    for record in records:
        if record.first != sum(one.rows for one in found):
            break
        found.append(record)
    return found
