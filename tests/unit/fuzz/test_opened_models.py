"""Files of fitted models that strangers have written: pickles, skops files, and folders of MLflow's."""

import io
import pickle
import warnings
from pathlib import Path

import hypothesis
import joblib
import numpy as np
import pytest
import skops.io
from hypothesis import given
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from machine_learning_engineering.adoption.opening import ModelRefused, mlflow_model, process, trusted
from machine_learning_engineering.adoption.opening.child import Task, report_on
from tests.support.fuzzing import bounded, dose, mutated

_K = "mle_package/machine_learning_engineering/"
DOORS = (
    _K + "adoption/opening/child.py:_open",
    _K + "adoption/opening/mlflow_model.py:_described",
    _K + "adoption/opening/mlflow_model.py:_signature",
    _K + "adoption/opening/trusted.py:loads",
)
MLMODEL = rb"""
flavors:
  sklearn:
    pickled_model: model.pkl
    serialization_format: cloudpickle
signature:
  inputs: '[{"type": "double", "name": "amount", "required": true}, {"type": "string", "name": "country"}]'
"""


def _models() -> list[object]:
    inputs = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [5.0, 1.0]])
    columns = ColumnTransformer([("scaled", StandardScaler(), [0]), ("texts", OneHotEncoder(), [1])])
    return [
        make_pipeline(columns, LogisticRegression()).fit(inputs, [0, 1, 0, 1]),
        DecisionTreeClassifier(max_depth=2).fit(inputs, [0, 1, 0, 1]),
    ]


def _packed(model: object) -> bytes:
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


PICKLES = [pickle.dumps(model, protocol) for model in _models() for protocol in (0, 2, 4, 5)]


@dose(60)
@given(content=mutated([*PICKLES, *map(_packed, _models())]))
@hypothesis.example(content=b"cos\nsystem\n(S'true'\ntR.")
@hypothesis.example(content=b"\x80\x04" + b"]" * 50_000 + b".")
def test_a_pickle_becomes_a_model_or_is_refused(content: bytes) -> None:
    with warnings.catch_warnings(), bounded(len(content)):
        warnings.simplefilter("ignore")  # Of an estimator whose attributes make no sense.
        report = report_on(Task(content), lambda: False)
        try:
            process.check(report, "model.pkl")
            estimator, _ = trusted.loads(report.content, "model.pkl")
        except ModelRefused as error:
            assert "model.pkl" in str(error)
            assert len(str(error)) < 5_000
        else:
            assert hasattr(estimator, "predict") or hasattr(estimator, "transform")


@dose(40)
@given(content=mutated([skops.io.dumps(model) for model in _models()]))
def test_a_skops_file_is_opened_or_refused(content: bytes) -> None:
    with warnings.catch_warnings(), bounded(len(content)):
        warnings.simplefilter("ignore")
        try:
            trusted.loads(content, "model.skops")
        except ModelRefused as error:
            assert "model.skops" in str(error)
            assert len(str(error)) < 5_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow")
    (path / "model.pkl").write_bytes(PICKLES[0])
    return path


def test_a_description_of_mlflow_names_a_file_of_its_folder(folder: Path) -> None:
    @dose(60)
    @given(content=mutated([MLMODEL]))
    @hypothesis.example(content=b"flavors: {sklearn: {pickled_model: ../../etc/passwd}}")
    @hypothesis.example(content=b"flavors: {sklearn: {pickled_model: /etc/passwd}}")
    @hypothesis.example(content=b"flavors: {sklearn: {pickled_model: .}}")
    @hypothesis.example(content=b"a: &a [1]\nb: [*a, *a]\nflavors: [sklearn]")
    @hypothesis.example(content=b"!!python/object/apply:os.system ['true']")
    @hypothesis.example(content=MLMODEL.replace(b'"type": "double"', b'"type": {"a": 1}'))
    @hypothesis.example(content=MLMODEL.replace(b"'[{", b"'[[[{"))
    def read(content: bytes) -> None:
        (folder / "MLmodel").write_bytes(content)
        try:
            with bounded(len(content)):
                path, signature = mlflow_model.resolve(str(folder))
        except ModelRefused as error:
            assert "MLmodel" in str(error)
            assert len(str(error)) < 5_000
        else:
            assert path == (folder / "model.pkl").resolve()
            for column in signature.inputs if signature else ():
                assert isinstance(column.name, str)

    read()
