"""Writes rows into the tables, and deletes old ones. Writing the same rows again changes nothing."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from monitoring.archive.database import Database, describe
from monitoring.archive.rows import Row
from monitoring.archive.tables import AGES, api_calls, labels, metadata, predictions

logger = logging.getLogger(__name__)

WRITTEN, REPEATED, REFUSED = "written", "repeated", "refused"
Results = Counter[tuple[str, str]]
"""Numbers of rows by topic and result: written; repeated: there already, or less worth than what is there; refused:
by the database."""
_DELETED_ROWS = 5_000


class Store:
    """The tables of a database.

    Args:
        database: with its tables made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._upserts = _upserts(postgresql.insert if database.is_postgresql else sqlite.insert)

    def write(self, rows: Sequence[Row]) -> Results:
        """Write rows; they are on disk when this returns.

        Of a request the first outcome stays, except that a completed one replaces a failed one of the same request. Of
        the labels of a request, the one observed last stays. A row that the database refuses is left out.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is unavailable; nothing, or some of the rows are written.
        """
        if not rows:
            return Counter()
        try:
            with self._database.writing() as connection:
                return self._write(connection, rows)
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            if not _is_refusal(error):
                raise
            if len(rows) == 1:
                # Its position, so that it can be found: its content is nobody's business here.
                logger.warning("a record of %s was refused: %s, %s", rows[0].topic, rows[0].position, describe(error))
                return Counter({(rows[0].topic, REFUSED): 1})
        half = len(rows) // 2
        return self.write(rows[:half]) + self.write(rows[half:])

    def _write(self, connection: Connection, rows: Sequence[Row]) -> Results:
        results: Results = Counter()
        tables: defaultdict[str, dict[tuple[str, ...], Row]] = defaultdict(dict)
        for row in rows:
            found = tables[row.table]
            held = found.get(row.key)
            if held is None or _replaces(row, held):
                found[row.key] = row
            results[row.topic, REPEATED] += 1
        for name, kept in tables.items():
            # In one order everywhere: processes that write the same rows don't wait for one another in a circle.
            ordered = [kept[key] for key in sorted(kept)]
            written = self.upsert(connection, name, [row.values for row in ordered])
            results[ordered[0].topic, WRITTEN] += written
            results[ordered[0].topic, REPEATED] -= written
        return +results

    def upsert(self, connection: Connection, table: str, values: Sequence[dict[str, Any]]) -> int:
        """Write rows within a transaction, no two with the same key; return how many were written."""
        # One statement a row, sent without waiting for the one before. A statement of many rows, which RETURNING would
        # need here, costs this process ten times as much.
        if not values:
            return 0
        options = {"preserve_rowcount": True}
        return connection.execute(self._upserts[table], list(values), execution_options=options).rowcount

    def prune(self, table: str, before: datetime) -> int:
        """Delete some of the rows of a time before this one; return how many, 0 if none is left.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is unavailable.
        """
        found = metadata.tables[table]
        keys = list(found.primary_key.columns)
        old = select(*keys).where(AGES[table] < before).limit(_DELETED_ROWS)
        with self._database.writing() as connection:
            return connection.execute(delete(found).where(tuple_(*keys).in_(old))).rowcount


def _is_refusal(error: Exception) -> bool:
    """Whether an error comes back with its row, which the database can't hold, or its driver can't send."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, StatementError | ValueError | OverflowError)
    # Class 54 of SQLSTATE: beyond a limit of PostgreSQL, which its driver counts among operational errors.
    beyond = str(getattr(error.orig, "sqlstate", None)).startswith("54")
    return beyond or isinstance(error, DataError | IntegrityError)


def _replaces(row: Row, held: Row) -> bool:
    """Whether a row replaces another one with its key, as `_upserts` says it for rows that are in the database."""
    new, old = row.values, held.values
    if row.table == "predictions":
        better = new["outcome"] == "completed" and old["outcome"] == "failed"
        return bool(better and new["fingerprint"] == old["fingerprint"])
    return row.table == "labels" and bool(_rank(new) > _rank(old))


def _rank(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values[name] for name in _RANK)


# Which label of a request counts: the one observed last, then reported last; the last part only to decide.
_RANK = ("observed_at", "reported_at", "label_text")


def _upserts(insert: Any) -> dict[str, Any]:
    """The statement for each table."""
    new = insert(predictions)
    replaced = and_(
        predictions.c.outcome == "failed",
        new.excluded.outcome == "completed",
        predictions.c.fingerprint == new.excluded.fingerprint,
    )
    prediction = new.on_conflict_do_update(index_elements=["request_id"], set_=_all(new, predictions), where=replaced)
    new = insert(labels)
    later = tuple_(*(new.excluded[name] for name in _RANK)) > tuple_(*(labels.c[name] for name in _RANK))
    label = new.on_conflict_do_update(index_elements=["request_id", "model"], set_=_all(new, labels), where=later)
    call = insert(api_calls).on_conflict_do_nothing(index_elements=["call_id"])
    return {"predictions": prediction, "labels": label, "api_calls": call}


def _all(new: Any, table: Table) -> dict[str, Any]:
    columns: Iterable[Any] = (column for column in table.columns if not column.primary_key)
    return {column.name: new.excluded[column.name] for column in columns}
