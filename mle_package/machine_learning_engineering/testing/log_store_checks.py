"""The contract checks of `PredictionLog`. Each returns None, or a description of what violates the contract.

A check uses unique names, so that all checks can share one log. `testing.log_store` runs them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from functools import wraps
from importlib.util import find_spec

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log.store import NotLogged, PredictionLog, PredictionRecord
from machine_learning_engineering.testing.log_store_examples import START, differs, example, failed, fresh, ids, plain

OpenLog = Callable[[], AbstractContextManager[PredictionLog]]
"""Opens the log under test; a second call opens the same log again."""
StoreCheck = Callable[[OpenLog], str | None]

STORE_CHECKS: list[StoreCheck] = []
"""All checks, in order of definition."""

_MINUTE, _MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)


def _register(check: StoreCheck) -> StoreCheck:
    STORE_CHECKS.append(check)
    return check


def _store_check(check: Callable[[PredictionLog, str], str | None]) -> StoreCheck:
    """Register a check that gets the open log and an unused name, for a model and as prefix of request ids."""

    @wraps(check)
    def with_open_log(open_log: OpenLog) -> str | None:
        with open_log() as log:
            return check(log, fresh())

    return _register(with_open_log)


@_store_check
def check_read_returns_appended(log: PredictionLog, model: str) -> str | None:
    """Every field of a completed and a failed prediction is read back."""
    rejected = failed(f"{model}-2", model, at=START + _MINUTE, error=Error("prediction_error", "no"), batch_size=3)
    completed = example(f"{model}-1", model, redacted=["name", "ticket"])
    return differs("append", log.append([completed, rejected]), 2) or differs(
        "read", plain(log.read(model)), plain([completed, rejected])
    )


@_store_check
def check_to_pandas(log: PredictionLog, model: str) -> str | None:
    """Records are a frame by request id, oldest first, with a column for each feature and field; if there is pandas."""
    if find_spec("pandas") is None:
        return None
    error = Error("invalid_features", "no")
    log.append(
        [
            example(
                f"{model}-1", model, features=Raw(b'{"number":1.5,"a":{"b":"x"}}'), prediction=Raw(b'{"p":{"q":2}}')
            ),
            failed(f"{model}-2", model, at=START + _MINUTE, features=Raw(b"[1]"), error=error, batch_size=0),
        ]
    )
    log.label(f"{model}-1", True)
    frame = log.to_pandas(model)
    names = ["features.number", "features.a.b", "features", "prediction.p.q", "label", "error_message", "outcome"]
    plain = frame[names].astype(object).where(frame[names].notna(), None)
    first = [1.5, "x", None, 2, True, None, "completed"]
    second = [None, None, "[1]", None, None, "no", "failed"]
    return (
        differs("index", frame.index.tolist(), [f"{model}-1", f"{model}-2"])
        or differs("rows", plain.to_numpy().tolist(), [first, second])
        or differs("times", frame["created_at"].tolist(), [START, START + _MINUTE])
        or differs("read since", log.to_pandas(model, since=START + _MINUTE).index.tolist(), [f"{model}-2"])
        or differs("read of a version", len(log.to_pandas(model, version="v0")), 0)
    )


@_store_check
def check_rejected_features_unchanged(log: PredictionLog, model: str) -> str | None:
    """Rejected features may be any JSON and are stored as sent; `model_version` may be empty."""
    unusual = [b"[]", b"null", b'"text"', b"-1.5", b'{"a":{"b":[1,{"c":null}]},"a.b":2}', b"[" * 60 + b"]" * 60]
    unusual += [b'{"text":"' + b"x" * 50_000 + b'"}', '{"é\\u0000":"\\n\\t\\" \\u2028"}'.encode()]
    records = [
        failed(
            f"{model}-{index}",
            model,
            at=START + index * _MINUTE,
            features=Raw(features),
            error=Error("invalid_features", 'feature `é` is "unknown"'),
            batch_size=0,
            model_version="",
        )
        for index, features in enumerate(unusual)
    ]
    log.append(records)
    return differs("read", plain(log.read(model)), plain(records))


@_store_check
def check_empty_append_and_read(log: PredictionLog, model: str) -> str | None:
    """An empty batch can be appended; an unknown model has no records."""
    return differs("append", log.append([]), 0) or differs("read", list(log.read(model)), [])


@_store_check
def check_duplicate_id_keeps_first(log: PredictionLog, model: str) -> str | None:
    """The first of two records with the same id wins, within one append and across two."""
    first, second = example(f"{model}-1", model), example(f"{model}-2", model, at=START + _MINUTE)
    replaced = msgspec.structs.replace(first, model_version="v2")
    return (
        differs("append of two with one id", log.append([first, replaced]), 1)
        or differs("append of one that is there", log.append([replaced, second]), 1)
        or differs("read", plain(log.read(model)), plain([first, second]))
    )


@_store_check
def check_duplicate_id_across_days_keeps_first(log: PredictionLog, model: str) -> str | None:
    """A request id is unique across days."""
    first = example(f"{model}-1", model)
    later = msgspec.structs.replace(first, created_at=START + timedelta(days=1))
    log.append([first])
    return differs("append on the next day", log.append([later]), 0) or differs(
        "read", plain(log.read(model)), plain([first])
    )


@_store_check
def check_read_filters(log: PredictionLog, model: str) -> str | None:
    """`since` is inclusive, `until` exclusive; both may have any UTC offset."""
    other = fresh()
    at = [START + minute * _MINUTE for minute in range(5)]
    names = [f"{model}-{minute}" for minute in range(5)]
    elsewhere = at[3].astimezone(timezone(timedelta(hours=5)))
    log.append([example(names[n], model, at=at[n], model_version=f"v{1 + n // 2}") for n in range(5)])
    log.append([example(f"{other}-0", other)])
    return (
        differs("read of the other model", ids(log.read(other)), [f"{other}-0"])
        or differs("read of a time", ids(log.read(model, since=at[1], until=at[3])), names[1:3])
        or differs("read of a version", ids(log.read(model, version="v2")), names[2:4])
        or differs("read of both", ids(log.read(model, version="v2", since=at[3])), names[3:4])
        or differs("read since +05:00", ids(log.read(model, since=elsewhere)), names[3:])
    )


@_store_check
def check_microsecond_precision(log: PredictionLog, model: str) -> str | None:
    """Times keep their microseconds, in filters and in the order of records."""
    at = [START + n * _MICROSECOND for n in range(5)]
    # Ids sort the other way round, so that ordering by id fails.
    names = [f"{model}-{9 - n}" for n in range(5)]
    log.append(reversed([example(names[n], model, at=at[n]) for n in range(5)]))
    return differs("read", ids(log.read(model)), names) or differs(
        "read of a time", ids(log.read(model, since=at[1], until=at[3])), names[1:3]
    )


@_store_check
def check_read_order_across_pages(log: PredictionLog, model: str) -> str | None:
    """2,500 records, many with the same time, are read oldest first."""
    log.append(example(f"{model}-{n:04}", model, at=START - (n // 900) * _MINUTE) for n in range(2_500))
    found = list(log.read(model))
    times = [record.created_at for record in found]
    return differs("number of ids", len(set(ids(found))), 2_500) or (
        None if times == sorted(times) and len(found) == 2_500 else f"{len(found)} records, or not oldest first"
    )


@_store_check
def check_partial_read(log: PredictionLog, model: str) -> str | None:
    """A reader that stops early blocks no writer."""
    log.append([example(f"{model}-{n}", model, at=START + n * _MINUTE) for n in range(3)])
    reading = iter(log.read(model))
    first = next(reading).request_id
    appended = log.append([example(f"{model}-3", model, at=START + 3 * _MINUTE)])
    return differs("first", first, f"{model}-0") or differs("append while reading", appended, 1)


@_store_check
def check_set_and_replace_label(log: PredictionLog, model: str) -> str | None:
    """A label is any JSON value, including null. A new object replaces an old one as a whole."""
    log.append([example(f"{model}-1", model), example(f"{model}-2", model, at=START + _MINUTE)])
    for label in (2.5, True, "positive", None, [1, 2], {"a": 1}, {"price": None}):
        log.label(f"{model}-1", label)
        first, second = log.read(model)
        found = "no label" if first.label is UNSET else msgspec.json.decode(first.label)
        if problem := differs("label", found, label) or differs("label of the other", second.label, UNSET):
            return problem
    return None


@_store_check
def check_reappend_keeps_label(log: PredictionLog, model: str) -> str | None:
    """Appending a labelled request again keeps its label."""
    record = example(f"{model}-1", model)
    log.append([record])
    log.label(record.request_id, True)
    log.append([record])
    return differs("labels", [one.label for one in log.read(model)], [Raw(b"true")])


@_store_check
def check_append_with_label(log: PredictionLog, model: str) -> str | None:
    """A record may be appended with its label, as in a copy of another log."""
    record = example(f"{model}-1", model, label=Raw(b'{"price":1.0}'))
    log.append([record])
    return differs("read", plain(log.read(model)), plain([record]))


@_store_check
def check_rejects_label_of_unknown_request(log: PredictionLog, model: str) -> str | None:
    """A label of an unknown request raises NotLogged, which names the request."""
    try:
        log.label(model, 1)
    except NotLogged as error:
        return None if model in str(error) else f"the error does not name the request: {error}"
    return "no NotLogged was raised"


@_store_check
def check_rejects_non_json_label(log: PredictionLog, model: str) -> str | None:
    """A label that is not JSON is rejected; NaN would silently become null."""
    log.append([example(f"{model}-1", model)])
    for label, expected in ((float("nan"), ValueError), ({"a": float("inf")}, ValueError), (object(), TypeError)):
        try:
            log.label(f"{model}-1", label)
        except expected:
            continue
        return f"label {label!r}: no {expected.__name__} was raised"
    return differs("labels", [one.label for one in log.read(model)], [UNSET])


@_store_check
def check_rejects_naive_time(log: PredictionLog, model: str) -> str | None:
    """A time without UTC offset is rejected."""
    naive = datetime(2026, 1, 1)
    for since, until in ((naive, None), (None, naive)):
        try:
            list(log.read(model, since=since, until=until))
        except ValueError:
            continue
        return f"since {since} until {until}: no ValueError was raised"
    return None


@_store_check
def check_append_atomic(log: PredictionLog, model: str) -> str | None:
    """If the iterable raises, no record is stored."""

    def failing() -> Iterator[PredictionRecord]:
        yield example(f"{model}-1", model)
        raise OSError("the source broke")

    try:
        log.append(failing())
    except OSError:
        return differs("read", list(log.read(model)), []) or differs(
            "append afterwards", log.append([example(f"{model}-1", model)]), 1
        )
    return "the source's error was not raised"


@_store_check
def check_any_text_in_ids(log: PredictionLog, model: str) -> str | None:
    """A request id is any string of up to 256 characters."""
    names = [f"{model}{text}" for text in ("/a b?c#d%2F", '"quoted"\\', "é€😀", "\n", "*", " ")]
    names.append(model + "€" * (256 - len(model)))
    log.append([example(one, model, at=START + n * _MINUTE) for n, one in enumerate(names)])
    for one in names:
        log.label(one, one)
    labels = [msgspec.json.decode(record.label or b"null") for record in log.read(model)]
    return differs("ids", ids(log.read(model)), names) or differs("labels", labels, names)


@_register
def check_reopen(open_log: OpenLog) -> str | None:
    """Records and labels persist after the log is closed."""
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-1", model)])
        log.label(f"{model}-1", 1)
    with open_log() as log:
        return differs("labels", [one.label for one in log.read(model)], [Raw(b"1")])


@_store_check
def check_log_thread_safety(log: PredictionLog, model: str) -> str | None:
    """Threads may share a log, even if they append the same records."""
    with ThreadPoolExecutor(4) as executor:
        counts = executor.map(lambda n: log.append([example(f"{model}-{n % 15}", model)]), range(45))
        return differs("appended", sum(counts), 15) or differs("read", len(list(log.read(model))), 15)
