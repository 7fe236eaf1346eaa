"""pyarrow, an extra: it loads when a parquet file is first touched."""

from typing import Any


def pyarrow(what: str) -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`. `what` needs them, as the message of the error says.

    Raises:
        ImportError: pyarrow is not installed; with the command that installs it.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        message = f'{what} needs pyarrow: pip install "machine-learning-engineering[parquet]"'
        raise ImportError(message) from error
    return pa, pq
