"""The prediction log that a command reads: the one of the deployment, or a file."""

from contextlib import AbstractContextManager
from pathlib import Path

from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionLogError
from monitoring.settings import ElasticsearchSettings

DEPLOYMENT = "elasticsearch"


def open_log(where: str, settings: ElasticsearchSettings) -> AbstractContextManager[PredictionLog]:
    """The log at `where`: "elasticsearch", the deployment's own, or the path of a SQLite log.

    Raises:
        PredictionLogError: there is no such file, or it is no log.
    """
    if where == DEPLOYMENT:
        from monitoring.elastic.prediction_log import ElasticsearchPredictionLog

        return ElasticsearchPredictionLog(settings)
    path = Path(where)
    if not path.is_file():
        raise PredictionLogError(f"there is no prediction log at {path}: give `{DEPLOYMENT}` or the path of a file")
    return SqlitePredictionLog(path)
