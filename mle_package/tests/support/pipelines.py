"""Fitted pipelines of many makings, on small data with what makes trouble: missing values, texts, bools, dates."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import (
    BayesianRidge,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

pd = pytest.importorskip("pandas", reason="needs the extra pandas")

ROWS = 24


class Case(NamedTuple):
    """A pipeline and the rows that it gets, by a function that fits it; and what its refusal says, if it is refused."""

    name: str
    make: Callable[[], tuple[Any, pd.DataFrame]]
    refused: str = ""


def orders(rows: int = ROWS) -> pd.DataFrame:
    """Mixed columns with holes."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "amount": rng.gamma(2, 30, rows).round(2),
            "items": rng.integers(1, 9, rows),
            "age": rng.normal(40, 9, rows).round(),
            "country": rng.choice(["de", "fr", "it", "at"], rows),
            "payment": rng.choice(["card", "invoice", "paypal"], rows),
            "coupon": rng.random(rows) > 0.5,
            "note": rng.choice(["late again", "very good shop", "bad box", "good, fast"], rows),
            "day": pd.date_range("2024-01-01", periods=rows, freq="11h").strftime("%Y-%m-%dT%H:%M:%S"),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[3::9, "payment"] = np.nan
    return frame


FRAME = orders()
NUMBERS = ["amount", "items", "age"]
BINARY = (FRAME["amount"] > 55).to_numpy()
PRICE = FRAME["amount"].to_numpy() * 3 + FRAME["items"].to_numpy()
KINDS = np.array(["high", "low", "mid"])[np.digitize(FRAME["amount"], [30, 60])]
CASES: list[Case] = []


def case(name: str, refused: str = "") -> Callable[[Callable[[], tuple[Any, pd.DataFrame]]], None]:
    """Register a pipeline."""

    def register(make: Callable[[], tuple[Any, pd.DataFrame]]) -> None:
        CASES.append(Case(name, make, refused))

    return register


def numbers_and(texts: Any, scaler: Any = None, columns: Any = ("country", "payment")) -> ColumnTransformer:
    scale = make_pipeline(SimpleImputer(strategy="median"), scaler or StandardScaler())
    return ColumnTransformer([("numbers", scale, NUMBERS), ("texts", texts, list(columns))])


def filled(encoder: Any) -> Pipeline:
    return make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)


def fitted(estimator: Any, frame: Any = None, target: Any = None) -> tuple[Any, pd.DataFrame]:
    columns = [*NUMBERS, "country", "payment"]
    frame = FRAME[columns] if frame is None else frame
    return estimator.fit(frame, BINARY if target is None else target), frame


# --- encoders and imputers --------------------------------------------------------------------------------------------

for text, encoder in {
    "one-hot-ignore": OneHotEncoder(handle_unknown="ignore"),
    "one-hot-error": OneHotEncoder(),
    "one-hot-rare": OneHotEncoder(min_frequency=6, handle_unknown="infrequent_if_exist", sparse_output=False),
    "one-hot-drop": OneHotEncoder(drop="if_binary", sparse_output=False),
    "ordinal-error": OrdinalEncoder(),
    "ordinal-value": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "target-encoder": TargetEncoder(random_state=0),
}.items():
    case(text)(
        lambda encoder=encoder: fitted(make_pipeline(numbers_and(filled(encoder)), DecisionTreeClassifier(max_depth=4)))
    )


@case("one-hot-knows-nan")
def _() -> Any:
    return fitted(make_pipeline(numbers_and(OneHotEncoder(handle_unknown="ignore")), LogisticRegression()))


@case("ordinal-nan-into-boosting")
def _() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("texts", encoder, ["country", "payment"])], remainder="passthrough")
    return fitted(make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=5)))


@case("imputer-constant")
def _() -> Any:
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder())
    return fitted(make_pipeline(numbers_and(texts), Ridge()), target=PRICE)


@case("imputer-of-none")
def _() -> Any:
    frame = FRAME[["amount", "payment"]].astype({"payment": object})
    frame["payment"] = pd.Series([text if isinstance(text, str) else None for text in frame["payment"]], dtype=object)
    texts = make_pipeline(
        SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer([("texts", texts, ["payment"])], remainder="passthrough")
    return fitted(make_pipeline(columns, LogisticRegression()), frame)


@case("imputer-indicator")
def _() -> Any:
    columns = make_pipeline(SimpleImputer(add_indicator=True), MinMaxScaler())
    return fitted(make_pipeline(columns, LogisticRegression()), FRAME[NUMBERS])


@case("imputer-knn")
def _() -> Any:
    return fitted(make_pipeline(KNNImputer(n_neighbors=3), LinearRegression()), FRAME[NUMBERS], PRICE)


@case("imputer-iterative")
def _() -> Any:
    return fitted(make_pipeline(IterativeImputer(max_iter=3, random_state=0), Ridge()), FRAME[NUMBERS], PRICE)


@case("missing-indicator")
def _() -> Any:
    union = FeatureUnion([("values", SimpleImputer()), ("holes", MissingIndicator())])
    return fitted(make_pipeline(union, DecisionTreeClassifier(max_depth=4)), FRAME[NUMBERS])


# --- scalers and transformations --------------------------------------------------------------------------------------

for scaler in (
    MaxAbsScaler(),
    RobustScaler(),
    PowerTransformer(),
    QuantileTransformer(n_quantiles=20),
    Normalizer(),
    Binarizer(),
    KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf")
    if hasattr(KBinsDiscretizer(), "quantile_method")
    else KBinsDiscretizer(4, encode="ordinal", subsample=None),
    PolynomialFeatures(2),
    SplineTransformer(n_knots=4),
    PCA(2),
):
    case(f"scaler-{type(scaler).__name__}")(
        lambda scaler=scaler: fitted(make_pipeline(SimpleImputer(), scaler, Ridge()), FRAME[NUMBERS], PRICE)
    )


@case("select-columns-by-type")
def _() -> Any:
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), make_column_selector(dtype_include=np.number)),
            ("others", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude=np.number)),
        ]
    )
    return fitted(make_pipeline(columns, LogisticRegression(max_iter=500)))


@case("select-columns-by-index")
def _() -> Any:
    frame = FRAME[NUMBERS]
    columns = ColumnTransformer([("numbers", SimpleImputer(), frame.columns)])
    return fitted(make_pipeline(columns, LogisticRegression()), frame)


@case("select-best")
def _() -> Any:
    steps = (SimpleImputer(), VarianceThreshold(), SelectKBest(f_classif, k=2), GaussianNB())
    return fitted(make_pipeline(*steps), FRAME[NUMBERS])


@case("function-of-numpy")
def _() -> Any:
    return fitted(make_pipeline(FunctionTransformer(np.log1p), Lasso(0.1)), FRAME[["amount", "items"]], PRICE)


# --- targets and estimators around estimators -------------------------------------------------------------------------


@case("target-log")
def _() -> Any:
    inner = make_pipeline(numbers_and(filled(OneHotEncoder())), Ridge())
    return fitted(TransformedTargetRegressor(inner, func=np.log1p, inverse_func=np.expm1), target=PRICE)


@case("target-scaled")
def _() -> Any:
    inner = make_pipeline(SimpleImputer(), SVR())
    return fitted(TransformedTargetRegressor(inner, transformer=StandardScaler()), FRAME[NUMBERS], PRICE)


@case("stacking-classes")
def _() -> Any:
    parts = [("tree", DecisionTreeClassifier(max_depth=3)), ("bayes", GaussianNB())]
    stack = StackingClassifier(parts, LogisticRegression(), cv=3)
    return fitted(make_pipeline(numbers_and(filled(OneHotEncoder(sparse_output=False))), stack), target=KINDS)


@case("stacking-numbers")
def _() -> Any:
    parts = [("trees", ExtraTreesRegressor(10, random_state=0)), ("line", LinearRegression())]
    return fitted(make_pipeline(SimpleImputer(), StackingRegressor(parts, cv=3)), FRAME[NUMBERS], PRICE)


@case("voting")
def _() -> Any:
    parts = [("tree", DecisionTreeClassifier(max_depth=3)), ("line", LogisticRegression())]
    return fitted(
        make_pipeline(SimpleImputer(), StandardScaler(), VotingClassifier(parts, voting="soft")), FRAME[NUMBERS]
    )


@case("bagging")
def _() -> Any:
    trees = BaggingClassifier(DecisionTreeClassifier(max_depth=3), 5, random_state=0)
    return fitted(make_pipeline(SimpleImputer(), trees), FRAME[NUMBERS])


for method in ("sigmoid", "isotonic"):
    case(f"calibrated-{method}")(
        lambda method=method: fitted(
            CalibratedClassifierCV(make_pipeline(SimpleImputer(), GaussianNB()), method=method, cv=3), FRAME[NUMBERS]
        )
    )


@case("grid-search")
def _() -> Any:
    pipeline = make_pipeline(numbers_and(filled(OneHotEncoder(handle_unknown="ignore"))), LogisticRegression())
    return fitted(GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2))


@case("tuned-threshold")
def _() -> Any:
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    return fitted(TunedThresholdClassifierCV(pipeline, cv=3), FRAME[NUMBERS])


@case("several-numbers")
def _() -> Any:
    target = np.column_stack([PRICE, FRAME["items"]])
    return fitted(make_pipeline(SimpleImputer(), MultiOutputRegressor(Ridge())), FRAME[NUMBERS], target)


@case("several-classes")
def _() -> Any:
    target = np.column_stack([BINARY, FRAME["coupon"]])
    several = MultiOutputClassifier(DecisionTreeClassifier(max_depth=3))
    return fitted(make_pipeline(SimpleImputer(), several), FRAME[NUMBERS], target)


# --- estimators -------------------------------------------------------------------------------------------------------

for estimator, target in (
    (RandomForestClassifier(12, random_state=0), KINDS),
    (GradientBoostingClassifier(n_estimators=8), KINDS),
    (AdaBoostClassifier(n_estimators=5, random_state=0), BINARY),
    (SVC(probability=False), KINDS),
    (SGDClassifier(loss="modified_huber", random_state=0), KINDS),
    (KNeighborsClassifier(3), KINDS),
    (LinearDiscriminantAnalysis(), KINDS),
    (DummyClassifier(strategy="prior"), KINDS),
    (RandomForestRegressor(12, random_state=0), PRICE),
    (KNeighborsRegressor(3, algorithm="ball_tree"), PRICE),
    (MLPRegressor(hidden_layer_sizes=(5,), max_iter=20, random_state=0), PRICE),
    (GaussianProcessRegressor(RBF() + WhiteKernel()), PRICE),
    (BayesianRidge(), PRICE),
    (PoissonRegressor(), PRICE),
    (TweedieRegressor(power=1.5), PRICE),
    (QuantileRegressor(), PRICE),
    (KMeans(3, n_init=1, random_state=0), PRICE),
    (IsolationForest(n_estimators=10, random_state=0), PRICE),
    (OneClassSVM(), PRICE),
):
    case(f"estimator-{type(estimator).__name__}")(
        lambda estimator=estimator, target=target: fitted(
            make_pipeline(SimpleImputer(), StandardScaler(), estimator), FRAME[NUMBERS], target
        )
    )


@case("isotonic")
def _() -> Any:
    return fitted(IsotonicRegression(out_of_bounds="clip"), FRAME[["amount"]], PRICE)


@case("transformer-only")
def _() -> Any:
    return fitted(make_pipeline(SimpleImputer(), StandardScaler(), PCA(2)), FRAME[NUMBERS])


@case("boosting-of-categories")
def _() -> Any:
    frame = FRAME[[*NUMBERS, "country", "payment"]].astype({"country": "category", "payment": "category"})
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=10, min_samples_leaf=5)
    return fitted(model, frame, PRICE)


@case("lightgbm-of-categories")
def _() -> Any:
    from lightgbm import LGBMClassifier

    frame = FRAME[[*NUMBERS, "country", "payment"]].astype({"country": "category", "payment": "category"})
    return fitted(LGBMClassifier(n_estimators=8, min_child_samples=5, verbose=-1, n_jobs=1), frame, KINDS)


@case("xgboost")
def _() -> Any:
    from xgboost import XGBClassifier

    columns = ColumnTransformer([("texts", filled(OneHotEncoder()), ["country"])], remainder="passthrough")
    model = XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1)
    return fitted(make_pipeline(columns, model), FRAME[[*NUMBERS, "country"]])


# --- kinds of columns -------------------------------------------------------------------------------------------------


@case("bools")
def _() -> Any:
    columns = ColumnTransformer([("flag", OneHotEncoder(), ["coupon"]), ("rest", "passthrough", ["amount"])])
    return fitted(make_pipeline(columns, LogisticRegression()), FRAME[["coupon", "amount"]])


@case("bools-with-holes")
def _() -> Any:
    frame = FRAME[["coupon", "amount"]].astype({"coupon": object})
    frame.loc[::8, "coupon"] = np.nan
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder())
    columns = ColumnTransformer([("flag", texts, ["coupon"])], remainder="passthrough")
    return fitted(make_pipeline(columns, LogisticRegression()), frame)


@case("nullable-types")
def _() -> Any:
    frame = FRAME[["age", "items", "country"]].astype({"age": "Int64", "items": "float32", "country": "string"})
    columns = ColumnTransformer(
        [("numbers", SimpleImputer(), ["age", "items"]), ("texts", OneHotEncoder(handle_unknown="ignore"), ["country"])]
    )
    return fitted(make_pipeline(columns, Ridge()), frame, PRICE)


@case("small-integers")
def _() -> Any:
    frame = FRAME[["items"]].astype("int8").assign(code=FRAME["items"] * 100)
    columns = ColumnTransformer([("codes", OneHotEncoder(handle_unknown="ignore"), ["code"])], remainder="passthrough")
    return fitted(make_pipeline(columns, DecisionTreeClassifier(max_depth=3)), frame)


@case("dates-as-texts")
def _() -> Any:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("days", encoder, ["day"])], remainder="passthrough")
    return fitted(make_pipeline(columns, DecisionTreeClassifier(max_depth=3)), FRAME[["day", "amount"]])


@case("dates")
def _() -> Any:
    frame = FRAME[["day", "amount"]].assign(day=pd.to_datetime(FRAME["day"]))
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("days", encoder, ["day"])], remainder="passthrough")
    return fitted(make_pipeline(columns, DecisionTreeClassifier(max_depth=3)), frame)


@case("texts-tfidf")
def _() -> Any:
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(FRAME["note"], KINDS)
    return model, FRAME[["note"]]


@case("texts-counted-in-a-column")
def _() -> Any:
    columns = ColumnTransformer([("note", CountVectorizer(), "note")], remainder="passthrough")
    return fitted(make_pipeline(columns, MultinomialNB()), FRAME[["note", "amount"]], KINDS)


@case("texts-hashed")
def _() -> Any:
    model = make_pipeline(HashingVectorizer(n_features=64), TruncatedSVD(3, random_state=0), Ridge())
    return model.fit(FRAME["note"], PRICE), FRAME[["note"]]


@case("array-of-numbers")
def _() -> Any:
    frame = FRAME[NUMBERS]
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(frame.to_numpy(), KINDS)
    return model, frame


@case("array-of-texts")
def _() -> Any:
    frame = FRAME[["country", "payment"]]
    model = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression())
    return model.fit(frame.to_numpy(dtype=object), BINARY), frame


# --- refused, with the reason -----------------------------------------------------------------------------------------


class GaussianDense(LogisticRegression):
    """A class of this test's own: nobody else has it."""


def double(values: Any) -> Any:
    return values * 2


@case("own-function", refused=r"asks for \S*pipelines\.double")
def _() -> Any:
    return fitted(make_pipeline(FunctionTransformer(double), Ridge()), FRAME[["amount"]], PRICE)


@case("own-class", refused=r"asks for \S*pipelines\.GaussianDense")
def _() -> Any:
    return fitted(GaussianDense(), FRAME[["amount"]])


@case("getter-of-attributes", refused=r"asks for operator\.attrgetter")
def _() -> Any:
    log = FunctionTransformer(attrgetter("values"))
    return fitted(make_pipeline(log, Ridge()), FRAME[["amount"]], PRICE)


@case("reads-files", refused=r"CountVectorizer\(input='filename'\) would read files")
def _() -> Any:
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(FRAME["note"], BINARY)
    model[0].input = "filename"
    return model, FRAME[["note"]]


@case("writes-a-cache", refused=r"Pipeline\(memory=\.\.\.\) would write to a folder")
def _() -> Any:
    model, frame = fitted(make_pipeline(SimpleImputer(), Ridge()), FRAME[NUMBERS], PRICE)
    model.memory = "/nonexistent"
    return model, frame


@case("distance-of-ones-own", refused=r"asks for \S*pipelines\.apart")
def _() -> Any:
    model = KNeighborsClassifier(3, metric=apart, algorithm="brute")
    return fitted(make_pipeline(SimpleImputer(), model), FRAME[NUMBERS])


def apart(one: Any, other: Any) -> float:
    return float(np.abs(one - other).sum())
