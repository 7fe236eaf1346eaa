"""Regression of a review's stars on the terms of its sentences, with a score and class probabilities.

A linear model gives each sentence a logit. The logit of a review is the mean over its sentences, weighted with the
square root of the number of their known terms; a stretched sigmoid of it is the score. The score of a sentence is that
of a review of this sentence alone.
"""

from collections.abc import Sequence
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
"""Reviews as lists of sentences; a sentence is a string of terms separated by spaces."""

_FOLDS = 5
_FAR = 30.0
_LIMITS = (1 / 3, 2 / 3)
# Candidate priors: the total weight at which the evidence of a review is halved.
_ODDS_PRIORS = (0.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_SCORE_PRIORS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)


class Scores(NamedTuple):
    """Scores (reviews,), class probabilities (reviews, 3), and for each review the scores of its sentences."""

    scores: Floats
    probabilities: Floats
    sentences: list[Floats]


class ReviewRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regression of stars with a sigmoid output, on reviews given as lists of sentences.

    Each sentence is a training row with the stars of its review, and each review is a row, the mean of its sentences.

    Args:
        characters: Use character n-grams in addition to words and pairs of words.
        strength: Inverse of the regularization.
        sentence_weight: Total weight of the sentence rows relative to the review rows.
        seed: Seed of the folds that scores are calibrated on.
    """

    def __init__(
        self, *, characters: bool = True, strength: float = 30.0, sentence_weight: float = 0.3, seed: int = 0
    ) -> None:
        self.characters = characters
        self.strength = strength
        self.sentence_weight = sentence_weight
        self.seed = seed

    def fit(self, reviews: Tokenized, stars: Sequence[float] | Floats) -> Self:
        """Fit to reviews and their stars from 1 to 5, both of shape (reviews,).

        Raises:
            ValueError: One of the three classes has no review.
        """
        targets = np.array([scaled(value) for value in stars], dtype=np.float64)
        if len({class_index(target) for target in targets}) < 3:
            raise ValueError(f"{len(targets)} reviews do not have all three classes, which training needs")
        self.vectorizers_ = self._new_vectorizers()
        texts = [text for review in reviews for text in review]
        bags = sp.hstack([vectorizer.fit_transform(texts) for vectorizer in self.vectorizers_]).tocsr()
        review_of = np.repeat(np.arange(len(reviews)), [len(review) for review in reviews])
        # Square root of the number of known terms of each sentence.
        weights: Floats = np.sqrt(np.diff(bags.indptr), dtype=np.float64)
        # Scores are calibrated on logits of models that were not fitted on the review.
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
        """Scores from 0 to 1, shape (reviews,)."""
        return self.score_reviews(reviews).scores

    def score_reviews(self, reviews: Tokenized) -> Scores:
        """Scores and class probabilities of reviews, and the scores of their sentences."""
        logits, known = self._scorer().score([text for review in reviews for text in review])
        review_of = np.repeat(np.arange(len(reviews)), [len(review) for review in reviews])
        return self.pool(logits, known, review_of, len(reviews))

    def pool(self, logits: Floats, known: Floats, review_of: NDArray[np.intp], count: int) -> Scores:
        """Pool the logits of sentences to scores of reviews.

        With weights w_i = sqrt(known_i) and a prior k, the evidence of a review is
        sum_i w_i * (logit_i - centre) / (sum_i w_i + k), over its sentences i.

        Args:
            logits: Shape (sentences,), in the order of the reviews.
            known: Number of known terms of each sentence, shape (sentences,).
            review_of: Index of each sentence's review, ascending, shape (sentences,). A review may have no sentence.
            count: Number of reviews.
        """
        weights = np.sqrt(known)
        deviation = weights * (logits - self.centre_)
        total, sums = _sums(weights, review_of, count), _sums(deviation, review_of, count)
        # Sentences are scored as reviews of one sentence.
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
        """State without the scorer, which is rebuilt."""
        return {name: value for name, value in super().__getstate__().items() if name != "_made_scorer"}

    def _scorer(self) -> SentenceScorer:
        made: tuple[LogisticRegression, SentenceScorer] | None = getattr(self, "_made_scorer", None)
        if made is None or made[0] is not self.linear_:
            linear = self.linear_
            scorer = SentenceScorer(self.vectorizers_, linear.coef_[0], float(linear.intercept_[0]))
            made = self._made_scorer = (linear, scorer)
        return made[1]

    def _new_vectorizers(self) -> list[TfidfVectorizer]:
        split_at_spaces = {"token_pattern": r"\S+", "lowercase": False}
        words = TfidfVectorizer(**split_at_spaces, ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        if not self.characters:
            return [words]
        char_ngrams = TfidfVectorizer(
            analyzer="char_wb", lowercase=False, ngram_range=(2, 5), min_df=3, sublinear_tf=True
        )
        return [words, char_ngrams]

    def _fitted(self, bags: Any, weights: Floats, review_of: NDArray[np.intp], targets: Floats) -> LogisticRegression:
        """Fit a logistic regression on sentences and reviews, with the cross-entropy to targets in [0, 1]."""
        reviews, position = np.unique(review_of, return_inverse=True)
        share = weights / np.maximum(np.bincount(position, weights), 1e-12)[position]
        whole = sp.csr_matrix((share, (position, np.arange(len(position))))) @ bags
        rows = sp.vstack([whole, bags]).tocsr()
        target = np.concatenate([targets[reviews], targets[review_of]])
        weight = np.concatenate(
            [np.ones(len(reviews)), np.full(len(position), self.sentence_weight * len(reviews) / len(position))]
        )
        # A target of 0.7 is a positive row with weight 0.7 and a negative one with weight 0.3.
        twice = sp.vstack([rows, rows]).tocsr()
        answers = np.repeat([1, 0], len(target))
        model = LogisticRegression(C=self.strength, max_iter=1000)
        return model.fit(twice, answers, sample_weight=np.concatenate([weight * target, weight * (1 - target)]))

    def _calibrate(self, logits: Floats, weights: Floats, review_of: NDArray[np.intp], targets: Floats) -> None:
        """Calibrate scores and probabilities on out-of-fold logits.

        Regression shrinks scores to the middle, so they are stretched until each third of the range holds as many
        reviews as by their stars. The prior of scores is chosen so that as many sentences are neutral as have a neutral
        review. Probabilities are from a proportional odds model; its prior maximizes the likelihood.

        Source of the proportional odds model: P. McCullagh, Regression Models for Ordinal Data, Journal of the Royal
        Statistical Society B 42, 1980.

        Args:
            logits: Out-of-fold logits of sentences, shape (sentences,).
            weights: Square root of the number of known terms, shape (sentences,).
            review_of: Index of each sentence's review, shape (sentences,).
            targets: Stars scaled to [0, 1], shape (reviews,).
        """
        count = len(targets)
        self.centre_ = float(np.average(logits, weights=weights))
        shares = [float(np.mean(targets < _LIMITS[0])), float(np.mean(targets <= _LIMITS[1]))]
        inherited = targets[review_of]
        neutral = float(np.mean((inherited >= _LIMITS[0]) & (inherited <= _LIMITS[1])))
        # Both whole reviews and single sentences, so that the calibration holds for either.
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
        # Beyond this limit the sigmoid rounds to 0 or 1, which are not valid scores.
        return np.asarray(expit(np.maximum(-_FAR, np.minimum(self.offset_ + self.stretch_ * evidence, _FAR))))


def _sums(values: Floats, review_of: NDArray[np.intp], count: int) -> Floats:
    return np.bincount(review_of, values, count).astype(np.float64, copy=False)


def _pooled(deviation: Floats, weight: Floats, prior: float) -> Floats:
    """Weighted mean deviation from the centre, shrunk by `prior`."""
    return np.asarray(deviation / np.maximum(weight + prior, 1e-12))


def _proportional_odds(evidence: Floats, above: NDArray[np.bool_], weight: Floats) -> Floats:
    """Fit logit P(class > limit j) = intercept_j + slope * evidence; return [slope, intercept_1, intercept_2].

    Args:
        above: Whether each row is above the first and the second limit, shape (2, rows).
    """
    second = np.repeat([0.0, 1.0], len(evidence))
    model = LogisticRegression(C=1e6, max_iter=1000)
    model.fit(np.column_stack([np.tile(evidence, 2), second]), above.ravel(), sample_weight=np.tile(weight, 2))
    slope, step = model.coef_[0]
    return np.array([slope, model.intercept_[0], model.intercept_[0] + step])


def _classes(odds: Floats, evidence: Floats) -> Floats:
    """Probabilities of the three classes, shape (rows, 3)."""
    slope, first, second = odds
    above = expit(first + slope * evidence)
    highest = np.minimum(expit(second + slope * evidence), above)
    return np.column_stack([1 - above, above - highest, highest])


def _log_likelihood(odds: Floats, evidence: Floats, above: NDArray[np.bool_], weight: Floats) -> float:
    chosen = _classes(odds, evidence)[np.arange(len(evidence)), above.sum(axis=0)]
    return float(np.sum(weight * np.log(np.maximum(chosen, 1e-12))))
