"""Comparison of the reviews model with other labellings and simpler models: ``python -m benchmarks.reviews_study``.

It prints the figures of the model card, and needs the package vaderSentiment.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from model.reviews import dataset
from model.reviews.dataset import RatedSentence
from model.reviews.estimator import ReviewRegressor
from model.reviews.features import ReviewFeatures, build_inputs, class_index, scaled
from model.reviews.text import marked_terms

_FOLDS, _REPEATS, _RESAMPLES, _SEED = 5, 2, 1_000, 11
_FRESH = 3_000
# Numbers of the first review of each product: a DVD player, two cameras, a phone, a music player.
_FIRST_OF_PRODUCT = (1, 99, 146, 176, 216)

Classes = NDArray[np.intp]
Fit = Callable[[ReviewRegressor, Sequence[int]], Any]
"""Fits a regressor to the reviews with these indices."""


class Corpus(NamedTuple):
    """Reviews with their sentences as the dataset has them; `texts` are split like requests."""

    sentences: list[list[RatedSentence]]
    texts: NDArray[np.object_]
    stars: NDArray[np.float64]
    classes: Classes


class Answers(NamedTuple):
    """Scores and probabilities of reviews, and of sentences as single reviews."""

    reviews: NDArray[np.float64]
    odds: NDArray[np.float64]
    sentences: NDArray[np.float64]
    sentence_odds: NDArray[np.float64]


def load(data_dir: Path | None = None, source: Any = dataset.DATASET) -> Corpus:
    """Load the reviews of a file of rated sentences."""
    rated = dataset.sentences(data_dir, dataset=source)
    sentences = [list(group) for _, group in groupby(rated, key=lambda one: one.review)]
    stars = np.array([dataset.stars(float(np.mean([one.rating for one in review]))) for review in sentences])
    rows = [ReviewFeatures(text=" ".join(one.text for one in review)) for review in sentences]
    return Corpus(sentences, build_inputs(rows), stars, _classes(scaled(value) for value in stars))


def answer(model: ReviewRegressor, corpus: Corpus, reviews: Sequence[int] | Classes) -> Answers:
    """Predictions of a fitted model for some reviews and their sentences."""
    whole = model.score_reviews(corpus.texts[list(reviews)])
    single = model.score_reviews([[marked_terms(one.text)] for index in reviews for one in corpus.sentences[index]])
    return Answers(whole.scores, whole.probabilities, single.scores, single.probabilities)


def cross_validated(corpus: Corpus, fit: Fit, folds: Sequence[NDArray[np.intp]]) -> Answers:
    """Out-of-fold predictions; no review is on both sides."""
    counts = [len(review) for review in corpus.sentences]
    starts = np.cumsum([0, *counts])
    found = Answers(*(np.zeros(shape) for shape in (len(counts), (len(counts), 3), starts[-1], (starts[-1], 3))))
    for fold in folds:
        model = ReviewRegressor(seed=_SEED)
        fit(model, sorted(set(range(len(counts))) - set(fold.tolist())))
        sentences = np.concatenate([np.arange(starts[index], starts[index + 1]) for index in fold])
        for kept, part, rows in zip(
            found, answer(model, corpus, fold), (fold, fold, sentences, sentences), strict=True
        ):
            kept[rows] = part
    return found


def labellings(corpus: Corpus) -> dict[str, Fit]:
    """Labellings to compare, the model's own first, and the model's simpler candidate."""

    def inherited(model: ReviewRegressor, chosen: Sequence[int]) -> Any:
        return model.fit(corpus.texts[list(chosen)], corpus.stars[list(chosen)])

    def own_rating(model: ReviewRegressor, chosen: Sequence[int]) -> Any:
        rated = [one for index in chosen for one in corpus.sentences[index]]
        return model.fit([[marked_terms(one.text)] for one in rated], [dataset.stars(one.rating) for one in rated])

    def majority_class(model: ReviewRegressor, chosen: Sequence[int]) -> Any:
        votes = [
            Counter(class_index(scaled(dataset.stars(one.rating))) for one in corpus.sentences[index]).most_common(1)[
                0
            ][0]
            for index in chosen
        ]
        return model.fit(corpus.texts[list(chosen)], [(1.0, 3.0, 5.0)[vote] for vote in votes])

    def whole_review(model: ReviewRegressor, chosen: Sequence[int]) -> Any:
        return model.fit([[" ".join(corpus.texts[index])] for index in chosen], corpus.stars[list(chosen)])

    def words_only(model: ReviewRegressor, chosen: Sequence[int]) -> Any:
        return inherited(model.set_params(characters=False, strength=100.0), chosen)

    return {
        "stars of the review (the model)": inherited,
        "the same, words only": words_only,
        "the sentence's own rating": own_rating,
        "most frequent class of the review's sentences": majority_class,
        "whole reviews, not split": whole_review,
    }


def vader(corpus: Corpus) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """VADER's compound scores from -1 to 1: of each review (mean of its sentences) and of each sentence."""
    analyzer = importlib.import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    scores = [[analyzer.polarity_scores(one.text)["compound"] for one in review] for review in corpus.sentences]
    return np.array([np.mean(review) for review in scores]), np.concatenate(scores)


def macro_f1(truth: Classes, answers: Classes) -> float:
    """Mean F1 of the three classes; a class that neither occurs nor is predicted counts as 0."""
    table = np.bincount(truth * 3 + answers, minlength=9).reshape(3, 3)
    return float(np.mean(2 * table.diagonal() / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)))


def calibration_error(truth: Classes, probabilities: NDArray[np.float64]) -> float:
    """Classwise expected calibration error with ten equal-width bins per class."""
    error = 0.0
    for position in range(3):
        said, happened = probabilities[:, position], truth == position
        ranges = np.minimum((said * 10).astype(int), 9)
        for one in np.unique(ranges):
            chosen = ranges == one
            error += abs(said[chosen].mean() - happened[chosen].mean()) * chosen.mean() / 3
    return float(error)


def brier(truth: Classes, probabilities: NDArray[np.float64]) -> float:
    """Brier score: squared distance between probabilities and outcome, summed over classes, mean over rows."""
    return float(((probabilities - np.eye(3)[truth]) ** 2).sum(axis=1).mean())


def threshold_vader(scores: NDArray[np.float64], low: float = -0.05, high: float = 0.05) -> Classes:
    """Classes of VADER's scores; by default with the limits of its authors."""
    return np.where(scores <= low, 0, np.where(scores < high, 1, 2))


def threshold_vader_cv(
    scores: NDArray[np.float64], truth: Classes, groups: Classes, folds: Sequence[Classes]
) -> Classes:
    """Classes of scores, for each fold with the two limits that are best on the other folds."""
    grid = np.quantile(scores, np.linspace(0.02, 0.98, 33))
    answers = np.zeros(len(scores), dtype=np.intp)
    for fold in folds:
        held = np.isin(groups, fold)
        known, right = scores[~held], truth[~held]
        pairs = ((low, high) for index, low in enumerate(grid) for high in grid[index:])
        best = max(pairs, key=lambda pair: macro_f1(right, threshold_vader(known, *pair)))
        answers[held] = threshold_vader(scores[held], *best)
    return answers


class Truth(NamedTuple):
    """True classes: of reviews, inherited by their sentences, and of the sentences' own ratings."""

    reviews: Classes
    inherited: Classes
    own: Classes
    review_of: Classes


def truth_of(corpus: Corpus) -> Truth:
    """True classes of reviews and sentences, and the review of each sentence."""
    review_of = np.repeat(np.arange(len(corpus.sentences)), [len(review) for review in corpus.sentences])
    own = _classes(scaled(dataset.stars(one.rating)) for review in corpus.sentences for one in review)
    return Truth(corpus.classes, corpus.classes[review_of], own, review_of)


def interval(groups: Classes, measure: Callable[[Classes], float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a measure; whole groups of rows are resampled."""
    random, names = np.random.default_rng(_SEED), np.unique(groups)
    rows = [np.flatnonzero(groups == name) for name in names]
    samples = [
        measure(np.concatenate([rows[index] for index in random.integers(0, len(names), len(names))]))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def _classes(scores: Iterable[float]) -> Classes:
    return np.array([class_index(float(score)) for score in scores], dtype=np.intp)


# --- the report ------------------------------------------------------------------------------------------------------


def _row(name: str, truth: Truth, reviews: Classes, sentences: Classes) -> str:
    each_review = np.arange(len(truth.reviews))
    cells = [
        _cell(truth.reviews, reviews, each_review),
        _cell(truth.inherited, sentences, truth.review_of),
        _cell(truth.own, sentences, truth.review_of),
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _cell(truth: Classes, answers: Classes, groups: Classes) -> str:
    low, high = interval(groups, lambda rows: macro_f1(truth[rows], answers[rows]))
    return f"{macro_f1(truth, answers):.3f} ({low:.3f} to {high:.3f})"


def _gain(truth: Classes, model: Classes, other: Classes, groups: Classes) -> str:
    def gain(rows: Classes) -> float:
        return macro_f1(truth[rows], model[rows]) - macro_f1(truth[rows], other[rows])

    low, high = interval(groups, gain)
    return f"{gain(np.arange(len(truth))):.3f} ({low:.3f} to {high:.3f})"


def _calibration(truth: Classes, odds: NDArray[np.float64]) -> str:
    base = brier(truth, np.tile(np.bincount(truth, minlength=3) / len(truth), (len(truth), 1)))
    return (
        f"calibration error {calibration_error(truth, odds):.3f}, Brier {brier(truth, odds):.3f}, base rates {base:.3f}"
    )


def report_on_reviews(corpus: Corpus) -> Iterator[str]:
    """Report on labellings, baselines, calibration, unknown products, and gains over VADER."""
    truth = truth_of(corpus)
    each_review = np.arange(len(corpus.stars))
    repeats = [
        [test for _, test in KFold(_FOLDS, shuffle=True, random_state=_SEED + repeat).split(each_review)]
        for repeat in range(_REPEATS)
    ]
    yield f"{len(corpus.stars)} reviews: {np.bincount(truth.reviews)} negative, neutral, positive"
    yield f"{len(truth.own)} sentences: {np.bincount(truth.inherited)} inherited, {np.bincount(truth.own)} own rating"
    yield "| | reviews | sentences, inherited | sentences, own rating |"
    ways = labellings(corpus)
    found = {name: [cross_validated(corpus, fit, folds) for folds in repeats] for name, fit in ways.items()}
    for name, answers in found.items():
        for one in answers:
            yield _row(name, truth, _classes(one.reviews), _classes(one.sentences))
    model = next(iter(found.values()))
    products = np.searchsorted(_FIRST_OF_PRODUCT, [int(review[0].review) for review in corpus.sentences], side="right")
    unknown = cross_validated(
        corpus, next(iter(ways.values())), [np.flatnonzero(products == product) for product in np.unique(products)]
    )
    yield _row("the model, unknown products", truth, _classes(unknown.reviews), _classes(unknown.sentences))

    of_reviews, of_sentences = vader(corpus)
    plain = threshold_vader(of_reviews), threshold_vader(of_sentences)
    fitted = (
        threshold_vader_cv(of_reviews, truth.reviews, each_review, repeats[0]),
        threshold_vader_cv(of_sentences, truth.inherited, truth.review_of, repeats[0]),
    )
    yield _row("VADER, its own limits", truth, *plain)
    yield _row("VADER, limits fitted to the labels", truth, *fitted)
    reviews, sentences = (int(np.bincount(one).argmax()) for one in (truth.reviews, truth.inherited))
    yield _row(
        "the most frequent class", truth, np.full_like(truth.reviews, reviews), np.full_like(truth.own, sentences)
    )
    for one in [*model, unknown, *found["the same, words only"]]:
        for name, other in (("VADER", plain), ("VADER, limits fitted", fitted)):
            yield f"reviews, above {name}: {_gain(truth.reviews, _classes(one.reviews), other[0], each_review)}"
            gain = _gain(truth.inherited, _classes(one.sentences), other[1], truth.review_of)
            yield f"sentences, above {name}: {gain}"
        yield f"reviews: {_calibration(truth.reviews, one.odds)}"
        yield f"sentences: {_calibration(truth.inherited, one.sentence_odds)}"
        yield f"mean absolute error in stars: {np.mean(abs(1 + 4 * one.reviews - corpus.stars)):.3f}"


def report_on_films(corpus: Corpus, films: Corpus) -> Iterator[str]:
    """Report on reviews of films, by the model and by one that is trained on them."""
    order = np.random.default_rng(_SEED).permutation(len(films.stars))
    fresh, rest = order[:_FRESH], order[_FRESH:]
    each = np.arange(len(rest))
    truth = films.classes[rest]
    yield f"{len(films.stars)} sentences about films: {np.bincount(films.classes)}; measured on {len(rest)}"
    for name, trained, chosen in (
        ("the model", corpus, np.arange(len(corpus.stars))),
        (f"trained on {_FRESH} of them", films, fresh),
    ):
        scores = (
            ReviewRegressor(seed=_SEED).fit(trained.texts[chosen], trained.stars[chosen]).score_reviews(films.texts)
        )
        yield f"{name}: {_cell(truth, _classes(scores.scores[rest]), each)}"
        yield f"{name}: {_calibration(truth, scores.probabilities[rest])}"
    yield f"VADER: {_cell(truth, threshold_vader(vader(films)[1][rest]), each)}"


if __name__ == "__main__":
    _corpus = load()
    for _line in chain(report_on_reviews(_corpus), report_on_films(_corpus, load(source=dataset.SHIFTED))):
        sys.stdout.write(_line + "\n")
        sys.stdout.flush()
