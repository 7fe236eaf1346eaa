"""What is told of a fitted pipeline: columns, types, what may be missing, known values, ranges, and its answer."""

import numpy as np
import pytest
from msgspec import UNSET
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC

from machine_learning_engineering.adoption.inspection import inspect_model
from machine_learning_engineering.adoption.opening.mlflow_model import Column, Signature

pd = pytest.importorskip("pandas", reason="needs the extra pandas")

ROWS = 60
RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "amount": RNG.gamma(2, 30, ROWS).round(2),
        "items": RNG.integers(1, 9, ROWS),
        "age": np.where(np.arange(ROWS) % 7 == 0, np.nan, RNG.normal(40, 9, ROWS).round()),
        "country": RNG.choice(["de", "fr", "it"], ROWS),
        "payment": RNG.choice(["card", "invoice"], ROWS),
        "coupon": RNG.random(ROWS) > 0.5,
    }
)
FRAME.loc[::9, "payment"] = np.nan
FRAUD = (FRAME["amount"] > 50).to_numpy()
KINDS = np.array(["high", "low", "mid"])[np.digitize(FRAME["amount"], [30, 60])]
NUMBERS = FRAME[["amount", "items"]]


def pipeline(last=None):
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["amount", "age"]),
            ("country", OneHotEncoder(), ["country"]),
            (
                "payment",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
                ["payment"],
            ),
            ("rest", "passthrough", ["items", "coupon"]),
        ]
    )
    return make_pipeline(columns, last or LogisticRegression(max_iter=1000)).fit(FRAME, FRAUD)


def test_every_column():
    found = inspect_model(pipeline(), FRAME.assign(fraud=FRAUD, extra=1), "fraud")
    told = {name: (one.type, one.missing, one.known, one.others) for name, one in found.features.items()}
    assert told == {
        "amount": ("float", "ok", (), "count"),
        "items": ("int", "refuse", (), "count"),
        "age": ("float", "ok", (), "count"),
        "country": ("text", "refuse", ("de", "fr", "it"), "refuse"),
        "payment": ("text", "ok", ("card", "invoice"), "count"),
        "coupon": ("bool", "refuse", (), "count"),
    }
    assert found.features["items"].range == (float(FRAME["items"].min()), float(FRAME["items"].max()))
    assert found.features["country"].range is UNSET
    assert found.answer == {"probability": "predict_proba[:, 1]", "fraud": "probability > 0.5"}
    assert found.kind == "binary"
    assert any("extra" in note for note in found.notes)


def test_what_takes_nan_may_be_missing():
    model = HistGradientBoostingClassifier(max_iter=5).fit(NUMBERS, FRAUD)
    assert {one.missing for one in inspect_model(model, NUMBERS).features.values()} == {"ok"}
    model = LogisticRegression().fit(NUMBERS, FRAUD)
    assert {one.missing for one in inspect_model(model, NUMBERS).features.values()} == {"refuse"}


def test_missing_values_that_the_model_does_not_answer_are_told():
    encoder = ColumnTransformer([("country", OneHotEncoder(), ["country"])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression(max_iter=1000)).fit(FRAME[["country", "amount"]], FRAUD)
    sample = FRAME[["country", "amount"]].copy()
    sample.loc[3, "amount"] = np.nan
    # A sample with a row that the model does not answer: it is not asked for it.
    with pytest.raises(ValueError, match="NaN"):
        model.predict(sample)
    found = inspect_model(model, sample.drop(index=3))
    assert found.features["amount"].missing == "refuse"


@pytest.mark.parametrize(
    ("model", "target", "kind", "answer"),
    [
        (LinearRegression(), FRAME["amount"], "regression", {"price": "predict"}),
        (LinearRegression(), NUMBERS, "regressions", {"price_0": "predict[:, 0]", "price_1": "predict[:, 1]"}),
        (LogisticRegression(max_iter=1000), KINDS, "classes", {"price": "predict", "probabilities": "predict_proba"}),
        (
            LogisticRegression(),
            np.where(FRAUD, "yes", "no"),
            "binary",
            {"probability": "predict_proba[:, 1]", "price": "predict"},
        ),
        (RidgeClassifier(), FRAUD, "binary", {"price": "predict"}),
        (SVC(), KINDS, "classes", {"price": "predict"}),
        (
            LogisticRegression(max_iter=50),
            np.arange(ROWS) % 30,
            "classes",
            {"price": "predict", "top": "top(predict_proba, 5)"},
        ),
        (KMeans(2, n_init=1), FRAUD, "clusters", {"cluster": "predict"}),
        (IsolationForest(n_estimators=5), FRAUD, "outliers", {"score": "score_samples", "outlier": "predict < 0"}),
        (StandardScaler(), FRAUD, "transform", {"vector": "transform"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_answers(model, target, kind, answer):
    found = inspect_model(model.fit(NUMBERS, target), NUMBERS, "price")
    assert (found.kind, found.answer) == (kind, answer)


def test_a_threshold_of_the_models_own_is_left_to_it():
    """Where the model does not decide at 0.5, an expression with 0.5 would answer something else."""
    from sklearn.model_selection import FixedThresholdClassifier

    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.2).fit(NUMBERS, FRAUD)
    found = inspect_model(model, NUMBERS, "fraud")
    assert found.answer == {"probability": "predict_proba[:, 1]", "fraud": "predict"}
    assert any("does not decide at a probability of 0.5" in note for note in found.notes)


def test_a_label_that_is_no_name_of_a_field():
    for label in ("is fraud", "class", "probability"):
        found = inspect_model(LogisticRegression().fit(NUMBERS, FRAUD), NUMBERS, label)
        assert set(found.answer) == {"probability", "prediction"}


def test_without_a_sample():
    found = inspect_model(pipeline(), None, "fraud")
    assert found.features["country"].type == "text"
    assert found.features["amount"].type == "float"
    assert found.features["country"].others == "refuse"
    assert any("no sample" in note for note in found.notes)
    signature = Signature((Column("items", "long", True), Column("coupon", "boolean", True)))
    found = inspect_model(pipeline(), None, "fraud", signature)
    assert (found.features["items"].type, found.features["coupon"].type) == ("int", "bool")


def test_models_without_names_of_columns():
    model = LogisticRegression().fit(NUMBERS.to_numpy(), FRAUD)
    assert list(inspect_model(model, NUMBERS.assign(fraud=FRAUD), "fraud").features) == ["amount", "items"]
    assert list(inspect_model(model, None).features) == ["x0", "x1"]
    with pytest.raises(ValueError, match="fitted on 2 columns without names, the sample has 6"):
        inspect_model(model, FRAME, "fraud")
    texts = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(FRAME["country"], FRAUD)
    assert list(inspect_model(texts, FRAME[["country"]]).features) == ["country"]


def test_a_sample_without_a_column():
    with pytest.raises(ValueError, match="the sample lacks columns that the model was fitted on: coupon"):
        inspect_model(pipeline(), FRAME.drop(columns="coupon"), "fraud")


def test_values_that_are_numbers():
    frame = FRAME[["items", "amount"]]
    columns = ColumnTransformer([("codes", OrdinalEncoder(), ["items"])], remainder="passthrough")
    found = inspect_model(make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, FRAUD), frame)
    assert found.features["items"].known == tuple(sorted(set(frame["items"].tolist())))
    assert found.features["items"].others == "refuse"
