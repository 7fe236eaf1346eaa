"""The reviews model: logistic regression on the words of sentences, which inherit the stars of their review."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from machine_learning_engineering import Candidate, Example, MLEModel
from machine_learning_engineering.evaluation.metrics import macro_f1
from model.reviews import dataset, features
from model.reviews.features import LABELS, Probabilities, ReviewFeatures, ReviewPrediction, Stars


def _regressor(params: Mapping[str, Any], seed: int) -> Any:
    from model.reviews.estimator import ReviewRegressor

    return ReviewRegressor(**params, seed=seed)


CANDIDATES = (
    Candidate("words", _regressor, {"characters": False, "strength": 100.0}),
    Candidate("words-and-characters", _regressor, {"characters": True, "strength": 30.0}),
)


class Reviews(MLEModel):
    """Sentiment of a review; the label is its stars, from 1 to 5."""

    name = "reviews"
    Features = ReviewFeatures
    Prediction = ReviewPrediction
    # Sentences are to be classified, and the metric of reviews is three times as uncertain: see the model card.
    primary_metric = "sentence_macro_f1"
    trusted_types = frozenset({"model.reviews.estimator.ReviewRegressor"})
    Label = Stars
    label_name = "stars"
    prediction_name = "sentiment"
    feature_names_in = ("sentences",)
    dataset_sha256 = dataset.DATASET.sha256

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return dataset.examples(data_dir)

    @classmethod
    def shifted_examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        """Labelled sentences about films, a domain that differs from products."""
        return dataset.shifted_examples(data_dir)

    def new_estimator(self, seed: int) -> Any:
        # The best mean in cross-validation; the pipeline's rule may choose the simpler one.
        return CANDIDATES[-1].estimator(None, seed)

    def candidates(self) -> Sequence[Candidate]:
        return CANDIDATES

    def build_inputs(self, rows: Sequence[ReviewFeatures]) -> NDArray[np.object_]:
        return features.build_inputs(rows)

    def predict(self, rows: Sequence[ReviewFeatures]) -> Sequence[ReviewPrediction]:
        if not rows:
            return []
        scored = self.estimator.score_reviews(features.build_inputs(rows))
        return [
            ReviewPrediction(
                score, LABELS[features.class_index(score)], Probabilities(*classes), tuple(sentences.tolist())
            )
            for score, classes, sentences in zip(
                scored.scores.tolist(), scored.probabilities.tolist(), scored.sentences, strict=True
            )
        ]

    def evaluate(self, predictions: Sequence[ReviewPrediction], labels: Sequence[float]) -> Mapping[str, float]:
        """Metrics of whole reviews, and `sentence_macro_f1`, where each sentence has the class of its review.

        `mae` is in stars. `log_loss` and `brier` are of the probabilities of the three classes.

        Args:
            labels: True stars from 1 to 5, in the order of `predictions`.
        """
        actual = [features.class_index(features.scaled(stars)) for stars in labels]
        answers = [LABELS.index(prediction.label) for prediction in predictions]
        stars_off = [abs(1 + 4 * one.score - stars) for one, stars in zip(predictions, labels, strict=True)]
        probabilities = np.array([astuple(one.probabilities) for one in predictions]).reshape(-1, 3)
        hit = np.eye(3)[actual]
        of_sentences = [
            (truth, features.class_index(score))
            for prediction, truth in zip(predictions, actual, strict=True)
            for score in prediction.sentence_scores or (prediction.score,)
        ]
        inherited, sentence_answers = zip(*of_sentences, strict=True)
        return {
            "macro_f1": macro_f1(actual, answers, len(LABELS)),
            "accuracy": float(np.mean(np.equal(actual, answers))),
            "sentence_macro_f1": macro_f1(inherited, sentence_answers, len(LABELS)),
            "mae": float(np.mean(stars_off)),
            "log_loss": float(-np.mean(np.log(np.maximum((probabilities * hit).sum(axis=1), 1e-12)))),
            "brier": float(np.mean(((probabilities - hit) ** 2).sum(axis=1))),
        }

    def row_loss(self, prediction: ReviewPrediction, label: float) -> float:
        """Share of the review's sentences that are not given the class of its stars."""
        truth = features.class_index(features.scaled(label))
        scores = prediction.sentence_scores or (prediction.score,)
        return sum(features.class_index(score) != truth for score in scores) / len(scores)
