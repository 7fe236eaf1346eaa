"""Opening files of fitted models: by a process of its own, from MLflow's folders, of other versions, damaged."""

import hashlib
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from machine_learning_engineering.adoption.opening import ModelRefused, open_model, process
from machine_learning_engineering.adoption.opening.answers import ALONE_LIMIT
from machine_learning_engineering.registry.skops_file import TRUSTED_TYPES

pd = pytest.importorskip("pandas", reason="needs the extra pandas")

FRAME = pd.DataFrame({"amount": [1.0, 2.0, np.nan, 4.0] * 30, "country": ["de", "fr", "de", "it"] * 30})


@pytest.fixture(scope="module")
def model():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("numbers", numbers, ["amount"]), ("texts", OneHotEncoder(), ["country"])])
    boosting = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2)
    return make_pipeline(columns, boosting).fit(FRAME, FRAME["country"] == "de")


def test_a_joblib_file_is_opened_in_a_process_and_answers_as_the_original(model, tmp_path):
    path = tmp_path / "fraud.joblib"
    joblib.dump(model, path)
    opened = open_model(str(path), FRAME)
    assert opened.format == "joblib"
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.scikit_learn_version == sklearn.__version__
    assert set(opened.types) <= TRUSTED_TYPES
    assert skops.io.get_untrusted_types(data=opened.content) == list(opened.types)
    expected = model.predict_proba(FRAME)
    assert np.array_equal(opened.estimator.predict_proba(FRAME), expected)
    assert np.array_equal(opened.answers.predict_proba(FRAME), expected)
    # Each of the first rows was asked for alone; it is found by its index.
    assert np.array_equal(opened.answers.predict_proba(FRAME[7:8]), model.predict_proba(FRAME[7:8]))
    with pytest.raises(LookupError):
        opened.answers.predict_proba(FRAME[ALONE_LIMIT : ALONE_LIMIT + 1])
    assert not hasattr(opened.answers, "transform")


def test_a_skops_file_needs_no_process(model, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_run", None)
    path = tmp_path / "fraud.skops"
    path.write_bytes(skops.io.dumps(model))
    opened = open_model(str(path))
    assert (opened.format, opened.content) == ("skops", path.read_bytes())
    assert np.array_equal(opened.estimator.predict(FRAME), model.predict(FRAME))


def mlflow_folder(folder: Path, file: str, content: bytes, flavour: str = "sklearn") -> Path:
    """As MLflow writes it."""
    (folder / file).write_bytes(content)
    (folder / "MLmodel").write_text(
        f"artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\n  {flavour}:\n"
        f"    pickled_model: {file}\n    serialization_format: skops\n    sklearn_version: {sklearn.__version__}\n"
        'signature:\n  inputs: \'[{"type": "double", "name": "amount", "required": false}, {"type": "string",\n'
        '    "name": "country", "required": true}]\'\n  outputs: null\n'
    )
    return folder


@pytest.mark.parametrize("prefix", ["", "mlflow:", "mlflow:file://"])
def test_a_folder_of_mlflow_is_read_without_it(model, tmp_path, prefix):
    folder = mlflow_folder(tmp_path, "model.skops", skops.io.dumps(model))
    opened = open_model(f"{prefix}{folder}")
    assert [tuple(column) for column in opened.signature.inputs] == [
        ("amount", "double", False),
        ("country", "string", True),
    ]
    assert np.array_equal(opened.estimator.predict(FRAME), model.predict(FRAME))
    assert "mlflow" not in sys.modules


def test_a_pickle_of_mlflow_goes_through_the_process(model, tmp_path):
    folder = mlflow_folder(tmp_path, "model.pkl", pickle.dumps(model))
    assert open_model(str(folder / "MLmodel")).format == "pickle"


def test_a_uri_of_a_registry_needs_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match="mlflow"):
        open_model("mlflow:models:/fraud/1")


def of_another_version(model) -> bytes:
    """A pickle whose estimators say that they are of scikit-learn 1.2.2, of the length that this takes."""
    content = pickle.dumps(model, protocol=2)
    number = sklearn.__version__.encode()
    return content.replace(len(number).to_bytes(4, "little") + number, len(b"1.2.2").to_bytes(4, "little") + b"1.2.2")


def test_a_file_of_another_scikit_learn_says_which_one(model, tmp_path):
    path = tmp_path / "old.pkl"
    # Where the losses were then: a module that is not there any more.
    path.write_bytes(of_another_version(model).replace(b"csklearn._loss._loss\n", b"c_loss\n"))
    with pytest.raises(ModelRefused, match=r'made with scikit-learn 1\.2\.2, installed is .*"scikit-learn==1\.2\.2"'):
        open_model(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", b"", r"has an unknown ending: \.skops"),
        ("model.joblib", b"PK\x03\x04", r"if skops wrote it, name it \.skops"),
        ("model.joblib", b"\x04\x22\x4d\x18", r"packed with lz4"),
        ("model.skops", b"no zip", r"is not a skops file"),
        ("model.pkl", pickle.dumps({"a": 1}), r"neither predicts nor transforms"),
        ("model.pkl", pickle.dumps(StandardScaler), r"asks for|neither predicts|not trusted|can't hold"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, monkeypatch, name, content, message):
    from machine_learning_engineering.adoption.opening import child

    # Without its own process, whose start takes long; it was shown above.
    monkeypatch.setattr(process, "_run", lambda content, name, sample: child.report_on(child.Task(content), bool))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelRefused, match=message):
        open_model(str(tmp_path / name))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ModelRefused, match=r"gone\.joblib can't be read: No such file"):
        open_model(str(tmp_path / "gone.joblib"))
    with pytest.raises(ModelRefused, match="is a folder without a file MLmodel"):
        open_model(str(tmp_path))
    with pytest.raises(ModelRefused, match="has no file MLmodel"):
        open_model(f"mlflow:{tmp_path}")
    folder = mlflow_folder(tmp_path, "model.pkl", b"", flavour="pytorch")
    with pytest.raises(ModelRefused, match="has the flavours python_function, pytorch"):
        open_model(str(folder))


def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        process,
        "_PROGRAM",
        "import os, sys; print('out of luck', file=sys.stderr, flush=True); os._exit(3)  # {path}{module}",
    )
    path = tmp_path / "model.pkl"
    path.write_bytes(b"x")
    with pytest.raises(ModelRefused, match="the process that reads it ended with 3: out of luck"):
        open_model(str(path))
    monkeypatch.setattr(process, "_PROGRAM", "print('nonsense')  # {path}{module}")
    with pytest.raises(ModelRefused, match="the process that reads it answers"):
        open_model(str(path))
    monkeypatch.setattr(process, "_PROGRAM", "import time; time.sleep(60)  # {path}{module}")
    monkeypatch.setattr(process, "SECONDS", 0.2)
    with pytest.raises(ModelRefused, match=r"was not opened within 0\.4 s"):
        open_model(str(path))


def test_the_process_gets_no_credentials(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(
        process,
        "_PROGRAM",
        "import os, sys; print(*os.environ, file=sys.stderr, flush=True); os._exit(3)  # {path}{module}",
    )
    (tmp_path / "model.pkl").write_bytes(b"x")
    with pytest.raises(ModelRefused) as caught:
        open_model(str(tmp_path / "model.pkl"))
    assert "OMP_NUM_THREADS" in str(caught.value)
    assert "AWS" not in str(caught.value)


def test_a_sample_that_does_not_fit_is_told(model, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    with pytest.raises(ModelRefused, match=r"does not answer the sample: ValueError: there are no columns country"):
        open_model(str(path), FRAME[["amount"]])
