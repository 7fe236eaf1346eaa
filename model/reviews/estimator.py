"""From the terms of a review's sentences to a score and to the probabilities of the three classes.

A linear model gives each sentence a logit; a review's is the mean of those, where a sentence weighs as the square root
of the number of its terms that the model knows. The sigmoid of it, stretched, is the score: what a sentence alone would
get, if the review consisted of it, is the sentence's score.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from model.reviews.features import class_index, scaled
from model.reviews.scorer import SentenceScorer

Floats = NDArray[np.float64]
Tokenized = Sequence[Sequence[str]] | NDArray[np.object_]
"""Reviews as lists of sentences, a sentence as its terms parted by spaces."""

_FOLDS = 5
_FAR = 30.0
_LIMITS = (1 / 3, 2 / 3)
# How many terms, about, a review must have to be believed by half: each is tried.
_ODDS_PRIORS = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_SCORE_PRIORS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


class Scores(NamedTuple):
    """For each review its score, the probabilities of its classes, and the scores of its sentences."""

    scores: Floats
    probabilities: Floats
    sentences: list[Floats]


class ReviewRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regression of stars with a sigmoid output, on reviews given as lists of sentences of terms.

    Args:
        characters: use pieces of words beside words and pairs of words.
        strength: the inverse of the regularization.
        sentence_weight: how much the sentences together weigh against the reviews they are from. Each sentence is a row
            with its review's stars; each review is a row too, the mean of its sentences.
        seed: decides how reviews are parted to calibrate scores.
    """

    def __init__(
        self, *, characters: bool = True, strength: float = 30.0, sentence_weight: float = 0.3, seed: int = 0
    ) -> None:
        self.characters = characters
        self.strength = strength
        self.sentence_weight = sentence_weight
        self.seed = seed

    def fit(self, reviews: Tokenized, stars: Sequence[float] | Floats) -> Self:
        """Fit to the stars, from 1 to 5, of reviews.

        Raises:
            ValueError: no review is negative, none is neutral or none is positive.
        """
        targets = np.array([scaled(value) for value in stars], dtype=np.float64)
        if len({class_index(target) for target in targets}) < 3:
            raise ValueError(f"{len(targets)} reviews lack one of the three classes: all are needed to train")
        self.vectorizers_ = self._new_vectorizers()
        texts = [text for review in reviews for text in review]
        bags = _beside(vectorizer.fit_transform(texts) for vectorizer in self.vectorizers_)
        review_of = np.repeat(np.arange(len(reviews)), [len(review) for review in reviews])
        weights = _weights(bags)
        # What calibrates the scores of reviews must not have been fitted to them.
        logits = np.zeros(len(texts))
        folds = KFold(min(_FOLDS, len(reviews)), shuffle=True, random_state=self.seed)
        for fitting, _ in folds.split(targets):
            seen = np.isin(review_of, fitting)
            model = self._fitted(bags[seen], weights[seen], review_of[seen], targets)
            logits[~seen] = model.decision_function(bags[~seen])
        self._calibrate(logits, weights, review_of, targets)
        self.linear_ = self._fitted(bags, weights, review_of, targets)
        return self

    def predict(self, reviews: Tokenized) -> Floats:
        """A score for each review, from 0 to 1."""
        return self.score_reviews(reviews).scores

    def score_reviews(self, reviews: Tokenized) -> Scores:
        """All that there is to say of each review."""
        logits, known = self._scorer().score([text for review in reviews for text in review])
        review_of = np.repeat(np.arange(len(reviews)), [len(review) for review in reviews])
        return self.pool(logits, known, review_of, len(reviews))

    def pool(self, logits: Floats, known: Floats, review_of: NDArray[np.intp], count: int) -> Scores:
        """Scores of `count` reviews from the logits of all their sentences, in the order of the reviews.

        Args:
            known: how many terms of each sentence the model knows.
            review_of: the position of each sentence's review; a review may have no sentence.
        """
        weights = np.sqrt(known)
        deviation = weights * (logits - self.centre_)
        total, sums = _sums(weights, review_of, count), _sums(deviation, review_of, count)
        # A sentence is scored as a review that consists of it.
        evidence = np.concatenate(
            [_pooled(sums, total, self.score_prior_), _pooled(deviation, weights, self.score_prior_)]
        )
        scores = self._score(evidence)
        ends = np.cumsum(np.bincount(review_of, minlength=count)).tolist()
        return Scores(
            scores[:count],
            _classes(self.odds_, _pooled(sums, total, self.odds_prior_)),
            [scores[count + start : count + end] for start, end in pairwise([0, *ends])],
        )

    def __getstate__(self) -> Any:
        """What is kept of it on disk: the scorer is made anew."""
        return {name: value for name, value in super().__getstate__().items() if name != "_made_scorer"}

    def _scorer(self) -> SentenceScorer:
        made: tuple[LogisticRegression, SentenceScorer] | None = getattr(self, "_made_scorer", None)
        if made is None or made[0] is not self.linear_:
            linear = self.linear_
            scorer = SentenceScorer(self.vectorizers_, linear.coef_[0], float(linear.intercept_[0]))
            made = self._made_scorer = (linear, scorer)
        return made[1]

    def _new_vectorizers(self) -> list[TfidfVectorizer]:
        parted_by_spaces = {"token_pattern": r"\S+", "lowercase": False}
        words = TfidfVectorizer(**parted_by_spaces, ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        if not self.characters:
            return [words]
        char_ngrams = TfidfVectorizer(
            analyzer="char_wb", lowercase=False, ngram_range=(2, 5), min_df=3, sublinear_tf=True
        )
        return [words, char_ngrams]

    def _fitted(self, bags: Any, weights: Floats, review_of: NDArray[np.intp], targets: Floats) -> LogisticRegression:
        """A logistic regression on sentences and reviews, with the cross-entropy to targets between 0 and 1."""
        reviews, position = np.unique(review_of, return_inverse=True)
        share = weights / np.maximum(np.bincount(position, weights), 1e-12)[position]
        whole = sp.csr_matrix((share, (position, np.arange(len(position))))) @ bags
        rows = sp.vstack([whole, bags]).tocsr()
        target = np.concatenate([targets[reviews], targets[review_of]])
        weight = np.concatenate(
            [np.ones(len(reviews)), np.full(len(position), self.sentence_weight * len(reviews) / len(position))]
        )
        # A target of 0.7 is a row that is positive with the weight 0.7 and negative with 0.3.
        twice = sp.vstack([rows, rows]).tocsr()
        answers = np.repeat([1, 0], len(target))
        model = LogisticRegression(C=self.strength, max_iter=1000)
        return model.fit(twice, answers, sample_weight=np.concatenate([weight * target, weight * (1 - target)]))

    def _calibrate(self, logits: Floats, weights: Floats, review_of: NDArray[np.intp], targets: Floats) -> None:
        """Find how logits of reviews that were not fitted become scores and probabilities.

        Scores are stretched so that each third holds as many reviews as by their stars: a regression draws them to the
        middle. Few known terms move a score less, so much less that as many sentences are neutral as have a neutral
        review. Probabilities are those of a proportional odds model, in which few terms count even less.
        """
        count = len(targets)
        self.centre_ = float(np.average(logits, weights=weights))
        shares = [float(np.mean(targets < _LIMITS[0])), float(np.mean(targets <= _LIMITS[1]))]
        inherited = targets[review_of]
        neutral = float(np.mean((inherited >= _LIMITS[0]) & (inherited <= _LIMITS[1])))
        # Both whole reviews and sentences as reviews of their own, so that the answers hold for either.
        deviation = weights * (logits - self.centre_)
        total, sums = _sums(weights, review_of, count), _sums(deviation, review_of, count)
        nearest = np.inf
        for prior in _SCORE_PRIORS:
            whole, alone = _pooled(sums, total, prior), _pooled(deviation, weights, prior)
            low, high = np.quantile(whole, shares)
            distance = abs(float(np.mean((alone >= low) & (alone <= high))) - neutral)
            if distance < nearest:
                nearest, self.score_prior_ = distance, prior
                self.stretch_ = float((logit(_LIMITS[1]) - logit(_LIMITS[0])) / max(high - low, 1e-6))
                self.offset_ = float(logit(_LIMITS[0]) - self.stretch_ * low)

        above = np.stack([targets >= _LIMITS[0], targets > _LIMITS[1]])
        best = -np.inf
        for prior in _ODDS_PRIORS:
            whole, alone = _pooled(sums, total, prior), _pooled(deviation, weights, prior)
            evidence = np.concatenate([whole, alone])
            answers = np.concatenate([above, above[:, review_of]], axis=1)
            weight = np.concatenate([np.ones(count), np.full(len(logits), count / len(logits))])
            odds = _proportional_odds(evidence, answers, weight)
            found = _log_likelihood(odds, evidence, answers, weight)
            if found > best:
                best, self.odds_prior_, self.odds_ = found, prior, odds

    def _score(self, evidence: Floats) -> Floats:
        # Beyond it a float can't tell the sigmoid from 0 or 1, which no score is.
        return np.asarray(expit(np.maximum(-_FAR, np.minimum(self.offset_ + self.stretch_ * evidence, _FAR))))


def _beside(parts: Iterable[Any]) -> Any:
    return sp.hstack(list(parts)).tocsr()


def _sums(values: Floats, review_of: NDArray[np.intp], count: int) -> Floats:
    return np.bincount(review_of, values, count).astype(np.float64, copy=False)


def _pooled(deviation: Floats, weight: Floats, prior: float) -> Floats:
    """How far the mean logit of each review is from the centre, less so by `prior` the fewer terms are known."""
    return np.asarray(deviation / np.maximum(weight + prior, 1e-12))


def _weights(bags: Any) -> Floats:
    """The weight of each row of `bags`: the square root of the number of its terms that are known."""
    return np.asarray(np.sqrt(np.diff(bags.indptr), dtype=np.float64))


def _proportional_odds(evidence: Floats, above: NDArray[np.bool_], weight: Floats) -> Floats:
    """A slope, and for each of the two limits between classes where the logit of being above it starts.

    Args:
        above: of shape (2, len(evidence)): whether each is above the first and above the second limit.
    """
    second = np.repeat([0.0, 1.0], len(evidence))
    model = LogisticRegression(C=1e6, max_iter=1000)
    model.fit(np.column_stack([np.tile(evidence, 2), second]), above.ravel(), sample_weight=np.tile(weight, 2))
    slope, step = model.coef_[0]
    return np.array([slope, model.intercept_[0], model.intercept_[0] + step])


def _classes(odds: Floats, evidence: Floats) -> Floats:
    """The probabilities of the three classes, of shape (len(evidence), 3)."""
    slope, first, second = odds
    above = expit(first + slope * evidence)
    highest = np.minimum(expit(second + slope * evidence), above)
    return np.column_stack([1 - above, above - highest, highest])


def _log_likelihood(odds: Floats, evidence: Floats, above: NDArray[np.bool_], weight: Floats) -> float:
    chosen = _classes(odds, evidence)[np.arange(len(evidence)), above.sum(axis=0)]
    return float(np.sum(weight * np.log(np.maximum(chosen, 1e-12))))
