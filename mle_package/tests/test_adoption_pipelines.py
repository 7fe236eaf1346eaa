"""Pipelines of many makings: each is answered exactly as by its original, alone and in a batch, or is refused."""

import io
import pickle
import warnings

import joblib
import numpy as np
import pytest

from machine_learning_engineering.adoption.frames import build_frame, rows_of
from machine_learning_engineering.adoption.inputs import estimator_input
from machine_learning_engineering.adoption.inspection import inspect_model
from machine_learning_engineering.adoption.opening import ModelRefused, process, trusted
from machine_learning_engineering.adoption.opening.answers import METHODS, Answers, dense
from machine_learning_engineering.adoption.opening.child import Report, Task, report_on
from machine_learning_engineering.adoption.parity import check_parity

from .support.pipelines import CASES

ADOPTED = [case for case in CASES if not case.refused]
REFUSED = [case for case in CASES if case.refused]


def packed(model, number: int) -> bytes:
    """A pickle of any protocol, or a file of joblib's, packed or not."""
    file = io.BytesIO()
    ways = [
        lambda: pickle.dump(model, file, protocol=2),
        lambda: pickle.dump(model, file, protocol=4),
        lambda: pickle.dump(model, file, protocol=5),
        lambda: joblib.dump(model, file),
        lambda: joblib.dump(model, file, compress=("xz", 1)),
        lambda: joblib.dump(model, file, compress=("zlib", 1)),
    ]
    ways[number % len(ways)]()
    return file.getvalue()


def opened(content: bytes, frame) -> tuple[object, Report]:
    """What `open_model` does, without a process of its own, whose start is what takes long."""
    report = report_on(Task(content, pickle.dumps(frame)), lambda: False)
    process.check(report, "model.pkl")
    return trusted.loads(report.content, "model.pkl")[0], report


def rows(answer) -> list:
    """One value a row; several outputs next to each other."""
    if isinstance(answer, list):
        return [list(row) for row in zip(*(dense(one).tolist() for one in answer), strict=True)]
    return dense(answer).tolist()


@pytest.mark.parametrize("number", range(len(ADOPTED)), ids=[case.name for case in ADOPTED])
def test_parity_is_exact(number):
    name = ADOPTED[number].name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What pipelines warn of while they are fitted and asked is theirs.
        original, frame = ADOPTED[number].make()
        estimator, report = opened(packed(original, number), frame)
        answers = Answers(list(frame.index), report.batch, report.alone)
        inspection = inspect_model(estimator, frame.assign(target=0), "target")
        assert list(inspection.features) == [str(column) for column in frame.columns]
        compared = 0
        for method in (one for one in METHODS if one in report.batch):
            ask = getattr(estimator, method)
            parity = check_parity(
                lambda rows_, method=method: rows(getattr(answers, method)(rows_)),
                lambda some, ask=ask: rows(ask(estimator_input(estimator, build_frame(some, inspection.features)))),
                frame,
                inspection.features,
            )
            assert parity.exact, f"{name}.{method}: {parity.text} {inspection.features}"
            assert (parity.rows, parity.alone) == (len(frame), len(frame))
            # What the other side has recorded is what the object in this process says.
            here = getattr(original, method)(estimator_input(original, frame))
            assert rows(getattr(answers, method)(frame)) == rows(here) or np.isnan(dense(here)).any()
            compared += 1
        assert compared


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_what_is_not_adopted_is_refused_with_the_reason(case):
    fitted, frame = case.make()
    with pytest.raises(ModelRefused, match=case.refused):
        opened(packed(fitted, 4), frame)


def test_there_are_many():
    assert len(ADOPTED) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_row_with_a_missing_text_alone_is_the_row_in_the_batch():
    """The trap: alone, pandas makes None of it, which the imputer for NaN does not see."""
    original, frame = next(case for case in ADOPTED if case.name == "one-hot-ignore").make()
    features = inspect_model(original, frame).features
    hole = int(np.flatnonzero(frame["payment"].isna())[0])
    row = rows_of(frame, features)[hole]
    assert row["payment"] is None
    typed = original.predict_proba(build_frame([row], features))
    assert np.array_equal(typed[0], original.predict_proba(frame)[hole])
