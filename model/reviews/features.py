"""Features and prediction of the reviews model, its inputs, and the relation of stars, scores and classes."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from model.reviews.text import marked_terms, split_sentences

Label = Literal["negative", "neutral", "positive"]
Stars = Annotated[float, Meta(ge=1, le=5, description="One person's stars, or the mean of several.")]
_TEXT = "It arrived early and works well. The cable is short."
LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")


class ReviewFeatures(Struct, frozen=True, forbid_unknown_fields=True):
    """One review. The title is the first sentence."""

    text: Annotated[
        str, Meta(min_length=1, max_length=20_000, description="In English; one sentence or many.", examples=[_TEXT])
    ]
    title: (
        Annotated[str, Meta(max_length=500, description="The headline of the review.", examples=["Great value"])] | None
    ) = None


class Probabilities(Struct, frozen=True):
    """Probability of each class; they add up to 1."""

    negative: float
    neutral: float
    positive: float


class ReviewPrediction(Struct, frozen=True):
    """Sentiment of a review.

    `score` is between 0 (worst) and 1 (best); `label` is the third of this range that contains it. The most probable
    class of `probabilities` may differ from `label` if the probabilities are close. `sentence_scores` has one score per
    sentence, the title's first; it is empty for a text without words.
    """

    score: float
    label: Label
    probabilities: Probabilities
    sentence_scores: tuple[float, ...]


def scaled(stars: float) -> float:
    """Stars from 1 to 5 as a score from 0 to 1."""
    return (stars - 1.0) / 4.0


def class_index(score: float) -> int:
    """Index in `LABELS` of the class of a score; both limits, 1/3 and 2/3, are neutral."""
    return 0 if score < 1 / 3 else 1 if score <= 2 / 3 else 2


def build_inputs(rows: Sequence[ReviewFeatures]) -> NDArray[np.object_]:
    """Shape (rows,): for each review the list of its sentences, each as terms separated by spaces."""
    found = np.empty(len(rows), dtype=object)
    for index, row in enumerate(rows):
        found[index] = [marked_terms(sentence) for sentence in sentences_of(row)]
    return found


def sentences_of(row: ReviewFeatures) -> list[str]:
    """Sentences of the title, then of the text."""
    return (split_sentences(row.title) if row.title else []) + split_sentences(row.text)
