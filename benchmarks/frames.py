"""The same models as most people write them: a scikit-learn pipeline that is fed with a DataFrame.

Preprocessing, estimator and parameters are those of our models, and so are the predictions, which `measure` compares.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.sdk import MLEModel
from model.diamonds import features as diamonds
from model.reviews.text import marked_terms, split_sentences
from model.titanic import features as titanic

Predict = Callable[[Sequence[Mapping[str, Any]]], NDArray[np.float64]]
"""From the features of requests, as JSON values, to one number a row."""

_GRADES = {"cut": diamonds.Cut, "color": diamonds.Color, "clarity": diamonds.Clarity}


def diamonds_pipeline(model: MLEModel, examples: Sequence[Example]) -> Predict:
    """Ordinal grades, unknown lengths as NaN; on top of it the estimator of `model`, as it was fitted."""
    fields = list(diamonds.DiamondFeatures.__struct_fields__)
    # One transformer a column keeps the order of the columns, which the estimator was fitted on.
    columns = ColumnTransformer(
        [
            (field, OrdinalEncoder(categories=[list(get_args(_GRADES[field]))]), [field])
            if field in _GRADES
            else (field, "passthrough", [field])
            for field in fields
        ]
    )
    unknown = FunctionTransformer(_without_zero_lengths)
    unknown_and_columns = make_pipeline(unknown, columns).fit(_frame(examples, fields))
    pipeline = Pipeline([("columns", unknown_and_columns), ("estimator", model.estimator)])
    return lambda requests: pipeline.predict(pd.DataFrame(requests))


def _without_zero_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    lengths = frame[["x", "y", "z"]]
    return frame.assign(**lengths.where(lengths != 0))


def titanic_pipeline(model: MLEModel, examples: Sequence[Example]) -> Predict:
    """Titles, families and fares in pandas, then imputation, scaling, one-hot encoding and the same regression."""
    numbers = ["age", "sibsp", "parch", "relatives", "log_fare_each", "large_family", "deck_known"]
    categories = ["pclass", "sex", "embarked", "title", "title_and_class"]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
        ]
    )
    frame = _frame(examples, list(titanic.PassengerFeatures.__struct_fields__))
    regression = model.new_estimator(0)[-1]
    pipeline = make_pipeline(FunctionTransformer(_family), columns, regression)
    pipeline.fit(frame, [example.label for example in examples])
    fields = frame.columns

    def predict(requests: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        return pipeline.predict_proba(pd.DataFrame(requests, columns=fields))[:, 1]

    return predict


def _family(frame: pd.DataFrame) -> pd.DataFrame:
    title = (
        frame["name"].str.extract(r", ([^.]*)\.", expand=False).replace({"Mme": "Mrs", "Mlle": "Miss", "Ms": "Miss"})
    )
    title = title.where(title.isin(["Mr", "Mrs", "Miss", "Master"]) | title.isna(), "other")
    relatives = frame["sibsp"] + frame["parch"]
    return frame.assign(
        age=frame["age"].astype(float),
        title=title,
        relatives=relatives,
        log_fare_each=np.log1p(frame["fare"] / (relatives + 1)),
        large_family=relatives >= 4,
        deck_known=frame["cabin"].str[:1].isin(list("ABCDEFG")),
        title_and_class=title + frame["pclass"].astype(str),
    )


def reviews_pipeline(model: MLEModel, examples: Sequence[Example]) -> Predict:
    """Sentences as a column of terms; on top of it the vectorizers and the regression of `model`, as they were fitted.

    How the logits of sentences become a score is the estimator's own affair, and the same for both.
    """
    regressor = model.estimator
    bags = FeatureUnion([(str(number), one) for number, one in enumerate(regressor.vectorizers_)])

    def predict(requests: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        sentences = _terms(pd.DataFrame(requests, columns=["text", "title"])).explode().dropna()
        matrix = bags.transform(sentences)
        logits, known = regressor.linear_.decision_function(matrix), np.diff(matrix.indptr)
        return regressor.pool(logits, known, sentences.index.to_numpy(), len(requests)).scores

    return predict


def _terms(frame: pd.DataFrame) -> pd.Series:
    texts = frame["title"].fillna("") + "\n" + frame["text"]
    return texts.map(lambda text: [marked_terms(sentence) for sentence in split_sentences(text)])


def _frame(examples: Sequence[Example], fields: list[str]) -> pd.DataFrame:
    return pd.DataFrame([example.features for example in examples], columns=fields)


PIPELINES: dict[str, Callable[[MLEModel, Sequence[Example]], Predict]] = {
    "diamonds": diamonds_pipeline,
    "titanic": titanic_pipeline,
    "reviews": reviews_pipeline,
}
