"""The schema of the archive from one release to the next: rows stay, a failure changes nothing, old releases refuse."""

import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from machine_learning_engineering.events.topics import LABELS, LOGS
from monitoring.archive import database as module
from monitoring.archive.database import ArchiveError, Database
from monitoring.archive.store import WRITTEN, Store
from monitoring.archive.tables import AGES
from tests.support.archive import ask, call, label, logged

NEXT = '''"""The next one."""
import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("region", sa.Text))
    op.execute("UPDATE predictions SET region = 'unknown'")
    {then}
'''
Next = Callable[[str], None]


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Next:
    """`next_release(then)`: from now on the product has one more migration, which ends with this statement."""
    folder = tmp_path / "release"

    def install(then: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with resources.as_file(resources.files("monitoring.archive") / "migrations") as found:
            shutil.copytree(found, folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        head = max(path.stem[1:] for path in (folder / "migrations" / "versions").glob("v*.py"))
        (folder / "migrations" / "versions" / "v9002.py").write_text(NEXT.format(head=head, then=then))
        released = SimpleNamespace(files=lambda _package: folder, as_file=resources.as_file)
        monkeypatch.setattr(module, "resources", released)

    return install


def everything(database: Database) -> list[object]:
    return [ask(database, f"SELECT * FROM {name} ORDER BY 1") for name in AGES]


def test_rows_of_the_first_version_stay(
    database: Database, store: Store, next_release: Next, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older release goes on writing while the newer one starts, and refuses to start itself."""
    store.write([logged("r1"), logged("r2", None), label(b"1", 0), call("c1")])
    before = everything(database)
    next_release("pass")
    database.upgrade()
    after = everything(database)
    assert [row[: len(row) - 1] for row in after[0]] == before[0]  # type: ignore[attr-defined]
    assert [row[-1] for row in after[0]] == ["unknown", "unknown"]  # type: ignore[attr-defined]
    assert after[1:] == before[1:]
    database.upgrade()
    assert everything(database) == after
    # What is written by column names goes on.
    assert store.write([logged("r3"), label(b"2", 1)]) == {(LOGS, WRITTEN): 1, (LABELS, WRITTEN): 1}
    monkeypatch.undo()
    with pytest.raises(ArchiveError, match="version 9002, this release knows"):
        database.upgrade()


def test_a_migration_that_fails_changes_nothing(database: Database, store: Store, next_release: Next) -> None:
    """It is tried again at the next start, and succeeds once its cause is gone."""
    store.write([logged("r1")])
    before = everything(database)
    next_release("op.execute('SELECT nothing FROM nowhere')")
    with pytest.raises(SQLAlchemyError):
        database.upgrade()
    assert everything(database) == before
    assert ask(database, "SELECT version_num FROM inflight_archive_version") != [("9002",)]
    next_release("pass")
    database.upgrade()
    assert ask(database, "SELECT region FROM predictions") == [("unknown",)]


def test_tables_that_are_somebody_elses_are_left_alone(archive_url: str) -> None:
    """A database in which a table of this name exists: an error, and the table as it was."""
    database = Database(archive_url)
    try:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE labels (mine INTEGER)"))
            connection.execute(text("INSERT INTO labels VALUES (1)"))
        with pytest.raises(SQLAlchemyError):
            database.upgrade()
        assert ask(database, "SELECT mine FROM labels") == [(1,)]
        with pytest.raises(SQLAlchemyError):
            ask(database, "SELECT 1 FROM predictions")
    finally:
        database.close()
