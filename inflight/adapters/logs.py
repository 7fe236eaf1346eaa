"""The prediction log that a command reads: one of the deployment's, or a file."""

from contextlib import AbstractContextManager
from pathlib import Path

from inflight.settings import Settings
from machine_learning_engineering.core.extras import install_command
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionLogError

ELASTICSEARCH, ARCHIVE = DEPLOYMENT = ("elasticsearch", "archive")
"""The logs of a deployment, by name."""


def open_log(where: str, settings: Settings) -> AbstractContextManager[PredictionLog]:
    """The log at `where`: "elasticsearch" or "archive", the deployment's own, or the path of a SQLite log.

    Raises:
        PredictionLogError: there is no such file or database, or it is no log.
    """
    if where == ELASTICSEARCH:
        from monitoring.elastic.prediction_log import ElasticsearchPredictionLog

        return ElasticsearchPredictionLog(settings)
    if where == ARCHIVE:
        return _archive(settings)
    path = Path(where)
    if not path.is_file():
        names = "`, `".join(DEPLOYMENT)
        raise PredictionLogError(f"there is no prediction log at {path}: give `{names}` or the path of a file")
    return SqlitePredictionLog(path)


def _archive(settings: Settings) -> AbstractContextManager[PredictionLog]:
    if settings.archive_url is None and not settings.archive_file.is_file():
        raise PredictionLogError(f"there is no archive at {settings.archive_file}: run inflight archive")
    try:
        from monitoring.archive.prediction_log import ArchivePredictionLog
    except ModuleNotFoundError as error:
        raise PredictionLogError(f"{error.name} is not installed: {install_command('archive')}") from None
    return ArchivePredictionLog(settings.archive_address)
