"""Export of prediction logs to parquet. pyarrow, an extra, is imported on first use."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.extras import require

if TYPE_CHECKING:
    from machine_learning_engineering.prediction_log.store import PredictionRecord

_PAGE = 1_000


def export_parquet(records: "Iterable[PredictionRecord]", path: Path) -> int:
    """Write records to a parquet file, atomically.

    Columns: request_id, model, model_version, outcome, created_at (UTC, microseconds), score_seconds, batch_size,
    error_type, error_message, redacted (a list of names), and features, prediction and label as JSON text. Unset fields
    are null.

    Returns:
        The number of records.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pa, pq = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    names = ("request_id", "model", "model_version", "outcome")
    last = ("features", "prediction", "label", "error_type", "error_message")
    schema = pa.schema(
        [(name, pa.string()) for name in names]
        + [("created_at", pa.timestamp("us", "UTC")), ("score_seconds", pa.float64()), ("batch_size", pa.int64())]
        + [(name, pa.string()) for name in last]
        + [("redacted", pa.list_(pa.string()))]
    )
    remaining, count = iter(records), 0
    with durable.replacing(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        while page := [_flat(record) for record in islice(remaining, _PAGE)]:
            writer.write_table(pa.Table.from_pylist(page, schema=schema))
            count += len(page)
    return count


def _flat(record: "PredictionRecord") -> dict[str, Any]:
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    row = {name: None if value is UNSET else value for name, value in row.items()}
    for name in ("features", "prediction", "label"):
        row[name] = row[name] and bytes(row[name]).decode()
    error = row.pop("error")
    return row | {"error_type": error and error.type, "error_message": error and error.message}
