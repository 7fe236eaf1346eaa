"""The laws that every `PredictionLog` keeps, one function each: it answers None, or what it saw that breaks the law.

A law works under names of its own, so that all of them can share one log. `prediction_log.checks` checks them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log.store import NotLogged, PredictionLog, PredictionRecord
from machine_learning_engineering.testing.log_store_examples import START, differs, example, failed, fresh, ids, plain

OpenLog = Callable[[], AbstractContextManager[PredictionLog]]
"""Opens the log that is judged; called again it opens the same one anew."""
StoreCheck = Callable[[OpenLog], str | None]

_MINUTE, _MICROSECOND = timedelta(minutes=1), timedelta(microseconds=1)


def what_is_appended_is_read_again(open_log: OpenLog) -> str | None:
    """Every field of a completed and of a failed prediction."""
    model = fresh()
    with open_log() as log:
        refused = failed(f"{model}-2", model, at=START + _MINUTE, error=Error("prediction_error", "no"), batch_size=3)
        completed = example(f"{model}-1", model, redacted=["name", "ticket"])
        return differs("append", log.append([completed, refused]), 2) or differs(
            "read", plain(log.read(model)), plain([completed, refused])
        )


def what_was_refused_is_kept_as_it_was_sent(open_log: OpenLog) -> str | None:
    """Features that no model understood may be any JSON, and there may be no version that refused them."""
    model = fresh()
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
    with open_log() as log:
        log.append(records)
        return differs("read", plain(log.read(model)), plain(records))


def nothing_can_be_appended_and_read(open_log: OpenLog) -> str | None:
    """An empty batch, a model without a record."""
    with open_log() as log:
        return differs("append", log.append([]), 0) or differs("read", list(log.read(fresh())), [])


def of_two_with_one_id_the_first_wins(open_log: OpenLog) -> str | None:
    """In one call and in two, so that appending again after an error is safe."""
    model = fresh()
    first, second = example(f"{model}-1", model), example(f"{model}-2", model, at=START + _MINUTE)
    replaced = msgspec.structs.replace(first, model_version="v2")
    with open_log() as log:
        return (
            differs("append of two with one id", log.append([first, replaced]), 1)
            or differs("append of one that is there", log.append([replaced, second]), 1)
            or differs("read", plain(log.read(model)), plain([first, second]))
        )


def of_two_with_one_id_on_two_days_the_first_wins(open_log: OpenLog) -> str | None:
    """A request id is unique for all time."""
    model = fresh()
    first = example(f"{model}-1", model)
    later = msgspec.structs.replace(first, created_at=START + timedelta(days=1))
    with open_log() as log:
        log.append([first])
        return differs("append on the next day", log.append([later]), 0) or differs(
            "read", plain(log.read(model)), plain([first])
        )


def a_model_a_version_and_a_time_can_be_chosen(open_log: OpenLog) -> str | None:
    """From a moment, included, to another, excluded; a moment with another offset is the same moment."""
    model, other = fresh(), fresh()
    at = [START + minute * _MINUTE for minute in range(5)]
    names = [f"{model}-{minute}" for minute in range(5)]
    elsewhere = at[3].astimezone(timezone(timedelta(hours=5)))
    with open_log() as log:
        log.append([example(names[n], model, at=at[n], model_version=f"v{1 + n // 2}") for n in range(5)])
        log.append([example(f"{other}-0", other)])
        return (
            differs("read of the other model", ids(log.read(other)), [f"{other}-0"])
            or differs("read of a time", ids(log.read(model, since=at[1], until=at[3])), names[1:3])
            or differs("read of a version", ids(log.read(model, version="v2")), names[2:4])
            or differs("read of both", ids(log.read(model, version="v2", since=at[3])), names[3:4])
            or differs("read since +05:00", ids(log.read(model, since=elsewhere)), names[3:])
        )


def times_are_kept_to_the_microsecond(open_log: OpenLog) -> str | None:
    """Also where records are chosen by them and put in order."""
    model = fresh()
    at = [START + n * _MICROSECOND for n in range(5)]
    # The ids are in the other order, so that they can't stand in for the times.
    names = [f"{model}-{9 - n}" for n in range(5)]
    with open_log() as log:
        log.append(reversed([example(names[n], model, at=at[n]) for n in range(5)]))
        return differs("read", ids(log.read(model)), names) or differs(
            "read of a time", ids(log.read(model, since=at[1], until=at[3])), names[1:3]
        )


def reading_is_in_order_and_over_any_number_of_records(open_log: OpenLog) -> str | None:
    """2,500 records, of which many share a moment."""
    model = fresh()
    with open_log() as log:
        log.append(example(f"{model}-{n:04}", model, at=START - (n // 900) * _MINUTE) for n in range(2_500))
        found = list(log.read(model))
        times = [record.created_at for record in found]
        return differs("number of ids", len(set(ids(found))), 2_500) or (
            None if times == sorted(times) and len(found) == 2_500 else f"{len(found)} records, or not oldest first"
        )


def a_reader_that_stops_early_is_in_nobodys_way(open_log: OpenLog) -> str | None:
    """What it did not read is not fetched without end, and others may append meanwhile."""
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-{n}", model, at=START + n * _MINUTE) for n in range(3)])
        reading = iter(log.read(model))
        first = next(reading).request_id
        appended = log.append([example(f"{model}-3", model, at=START + 3 * _MINUTE)])
        return differs("first", first, f"{model}-0") or differs("append while reading", appended, 1)


def a_label_is_set_replaced_and_read(open_log: OpenLog) -> str | None:
    """Any JSON value; null is a label too, and an object replaces an object whole."""
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-1", model), example(f"{model}-2", model, at=START + _MINUTE)])
        for label in (2.5, True, "positive", None, [1, 2], {"a": 1}, {"price": None}):
            log.label(f"{model}-1", label)
            first, second = log.read(model)
            found = "no label" if first.label is UNSET else msgspec.json.decode(first.label)
            if seen := differs("label", found, label) or differs("label of the other", second.label, UNSET):
                return seen
    return None


def a_label_survives_that_its_request_is_appended_again(open_log: OpenLog) -> str | None:
    """A replay changes nothing."""
    model = fresh()
    record = example(f"{model}-1", model)
    with open_log() as log:
        log.append([record])
        log.label(record.request_id, True)
        log.append([record])
        return differs("labels", [one.label for one in log.read(model)], [Raw(b"true")])


def a_record_may_be_appended_with_its_label(open_log: OpenLog) -> str | None:
    """As a copy of another log has it."""
    model = fresh()
    record = example(f"{model}-1", model, label=Raw(b'{"price":1.0}'))
    with open_log() as log:
        log.append([record])
        return differs("read", plain(log.read(model)), plain([record]))


def a_label_for_an_unknown_request_is_refused(open_log: OpenLog) -> str | None:
    """NotLogged, which names the request."""
    name = fresh()
    with open_log() as log:
        try:
            log.label(name, 1)
        except NotLogged as error:
            return None if name in str(error) else f"the error does not name the request: {error}"
    return "no NotLogged was raised"


def a_label_that_is_no_json_value_is_refused(open_log: OpenLog) -> str | None:
    """A NaN would silently become null."""
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-1", model)])
        for label, refusal in ((float("nan"), ValueError), ({"a": float("inf")}, ValueError), (object(), TypeError)):
            try:
                log.label(f"{model}-1", label)
            except refusal:
                continue
            return f"label {label!r}: no {refusal.__name__} was raised"
        return differs("labels", [one.label for one in log.read(model)], [UNSET])


def a_time_without_offset_is_refused(open_log: OpenLog) -> str | None:
    """It is no moment."""
    naive = datetime(2026, 1, 1)
    with open_log() as log:
        for since, until in ((naive, None), (None, naive)):
            try:
                list(log.read(fresh(), since=since, until=until))
            except ValueError:
                continue
            return f"since {since} until {until}: no ValueError was raised"
    return None


def a_batch_whose_source_breaks_is_left_out_whole(open_log: OpenLog) -> str | None:
    """All or none."""
    model = fresh()

    def failing() -> Iterator[PredictionRecord]:
        yield example(f"{model}-1", model)
        raise OSError("the source broke")

    with open_log() as log:
        try:
            log.append(failing())
        except OSError:
            return differs("read", list(log.read(model)), []) or differs(
                "append afterwards", log.append([example(f"{model}-1", model)]), 1
            )
    return "the source's error was not raised"


def ids_may_hold_any_text(open_log: OpenLog) -> str | None:
    """Up to 256 characters of it."""
    model = fresh()
    names = [f"{model}{text}" for text in ("/a b?c#d%2F", '"quoted"\\', "é€😀", "\n", "*", " ")]
    names.append(model + "€" * (256 - len(model)))
    with open_log() as log:
        log.append([example(one, model, at=START + n * _MINUTE) for n, one in enumerate(names)])
        for one in names:
            log.label(one, one)
        labels = [msgspec.json.decode(record.label or b"null") for record in log.read(model)]
        return differs("ids", ids(log.read(model)), names) or differs("labels", labels, names)


def a_log_that_is_opened_again_has_everything(open_log: OpenLog) -> str | None:
    """What was appended outlives who appended it."""
    model = fresh()
    with open_log() as log:
        log.append([example(f"{model}-1", model)])
        log.label(f"{model}-1", 1)
    with open_log() as log:
        return differs("labels", [one.label for one in log.read(model)], [Raw(b"1")])


def threads_may_share_a_log(open_log: OpenLog) -> str | None:
    """Also when they append the same records."""
    model = fresh()
    with open_log() as log, ThreadPoolExecutor(4) as executor:
        counts = executor.map(lambda n: log.append([example(f"{model}-{n % 15}", model)]), range(45))
        return differs("appended", sum(counts), 15) or differs("read", len(list(log.read(model))), 15)


STORE_CHECKS: tuple[StoreCheck, ...] = (
    what_is_appended_is_read_again,
    what_was_refused_is_kept_as_it_was_sent,
    nothing_can_be_appended_and_read,
    of_two_with_one_id_the_first_wins,
    of_two_with_one_id_on_two_days_the_first_wins,
    a_model_a_version_and_a_time_can_be_chosen,
    times_are_kept_to_the_microsecond,
    reading_is_in_order_and_over_any_number_of_records,
    a_reader_that_stops_early_is_in_nobodys_way,
    a_label_is_set_replaced_and_read,
    a_label_survives_that_its_request_is_appended_again,
    a_record_may_be_appended_with_its_label,
    a_label_for_an_unknown_request_is_refused,
    a_label_that_is_no_json_value_is_refused,
    a_time_without_offset_is_refused,
    a_batch_whose_source_breaks_is_left_out_whole,
    ids_may_hold_any_text,
    a_log_that_is_opened_again_has_everything,
    threads_may_share_a_log,
)
