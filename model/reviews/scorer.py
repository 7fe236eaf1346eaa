"""Fast linear model on sentences, equivalent to scikit-learn's TF-IDF and logistic regression.

scikit-learn spends most of the time on splitting the same words into the same character n-grams. Here each word is
split once; its terms and the sums over them are cached. The sum over the words of a sentence is exact for terms that
occur once; terms that occur more often are corrected.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_CACHED = 50_000
"""Maximum number of cached words, of about 300 bytes each; beyond it the cache is cleared."""
_MAX_CACHED_LETTERS = 2_000_000
"""Maximum number of letters of all cached words, of up to 4 bytes each: one word may have thousands."""
_MAX_CACHED_TERMS = 4_000_000
"""Maximum number of terms of all cached words, of 4 bytes each."""
_CHUNK = 32
"""Sentences per chunk, so that its arrays fit into the processor's cache."""


class SentenceScorer:
    """Logits of sentences under a fitted model. Thread-safe under the GIL.

    Args:
        vectorizers: Fitted `TfidfVectorizer`s with sublinear term frequencies and Euclidean norms. The first is of
            words and pairs of words; the others (`char_wb`) of character n-grams of single words.
        coefficients: Coefficients of all terms, shape (terms,).
        intercept: Logit of a sentence without a known term.
    """

    def __init__(self, vectorizers: Sequence[Any], coefficients: Floats, intercept: float) -> None:
        idf = np.concatenate([vectorizer.idf_ for vectorizer in vectorizers])
        sizes = [len(vectorizer.vocabulary_) for vectorizer in vectorizers]
        self._block_of = np.repeat(np.arange(len(sizes)), sizes)
        self._blocks = len(sizes)
        # Contribution of each term to the squared length of a sentence and to its logit.
        self._values = np.stack([idf * idf, idf * coefficients])
        self._intercept = intercept
        self._words = _Words(vectorizers, self._block_of, self._values)
        self._of_thread = threading.local()

    def score(self, sentences: Sequence[str]) -> tuple[Floats, Floats]:
        """Logits and numbers of distinct known terms of sentences (terms separated by spaces).

        Returns:
            Two arrays of shape (sentences,).
        """
        logits, known = np.empty(len(sentences)), np.empty(len(sentences))
        for start in range(0, len(sentences), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            logits[chunk], known[chunk] = self._score(sentences[chunk])
        return logits, known

    def _score(self, sentences: Sequence[str]) -> tuple[Floats, NDArray[Any]]:
        count, blocks = len(sentences), self._blocks
        cells = 2 * blocks * count
        table, rows, lengths = self._words.rows(sentences)
        sentence = np.repeat(np.arange(count, dtype=np.int32), lengths)
        terms, sizes = table.terms(rows)
        known = np.bincount(sentence, sizes, count)
        # `bincount` adds in order, so other sentences do not change a result; with the faster `reduceat` they do.
        cell = sentence + np.arange(0, cells, count)[:, None]
        sums = np.bincount(cell.ravel(), table.sums.take(rows, axis=1).ravel(), cells)
        sentence = np.repeat(sentence, sizes)
        place, times = self._repeated(terms, sentence)
        if len(place):
            term, sentence = terms[place], sentence[place]
            excess = _EXCESS.take(times, axis=1) if times.max() < _EXCESS.shape[1] else _excess(times)
            excess *= self._values.take(term, axis=1)
            cell = self._block_of[term] * count + sentence + np.array([[0], [blocks * count]])
            sums += np.bincount(cell.ravel(), excess.ravel(), cells)
            known = known - np.bincount(sentence, times - 1, count)
        squares, totals = sums.reshape(2, blocks, count)
        # Without terms the length is 0. Row by row, because the order of a sum over an axis may depend on its shape.
        logits = np.full(count, self._intercept)
        for part in totals / np.maximum(np.sqrt(squares), 1e-300):
            logits += part
        return logits, known

    def _repeated(self, terms: NDArray[np.int32], sentence: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Last positions of terms that occur more than once in their sentence, and their counts."""
        last = getattr(self._of_thread, "last", None)
        if last is None:
            last = self._of_thread.last = np.empty(_CHUNK * len(self._block_of), dtype=np.int32)
        # One cell per term and sentence; only cells that were just written are read.
        cells = sentence * np.int32(len(self._block_of)) + terms
        last[cells] = np.arange(len(cells), dtype=np.int32)
        times = np.bincount(last[cells], minlength=1)
        place = np.flatnonzero(times > 1)
        return place, times[place]


def _excess(times: NDArray[Any]) -> Floats:
    """Difference of the sublinear weight 1 + ln(n), and of its square, from n, shape (2, terms)."""
    weights = 1.0 + np.log(times)
    return np.stack([weights * weights - times, weights - times])


# Precomputed, because logarithms are slow and terms rarely occur more often in a sentence.
_EXCESS = _excess(np.maximum(np.arange(64), 1))


class _Words:
    """Cache of the terms of each word: the word itself and its character n-grams."""

    def __init__(self, vectorizers: Sequence[Any], block_of: NDArray[np.intp], values: Floats) -> None:
        words, *char_ngrams = vectorizers
        self._known: Mapping[str, int] = words.vocabulary_
        # By the first and the second word of a pair: faster than joining words.
        self._pairs: dict[str, dict[str, int]] = {}
        for pair, row in self._known.items():
            first, _, second = pair.partition(" ")
            if second:
                self._pairs.setdefault(first, {})[second] = row
        starts = np.searchsorted(block_of, np.arange(1, len(vectorizers))).tolist()
        self._char_ngrams = [
            (vectorizer.build_analyzer(), vectorizer.vocabulary_, start)
            for vectorizer, start in zip(char_ngrams, starts, strict=True)
        ]
        self._growing = threading.Lock()
        self._new_table = partial(_Table, len(self._known), block_of, values)
        self._table = self._new_table()

    def rows(self, sentences: Sequence[str]) -> tuple["_Table", NDArray[np.int32], list[int]]:
        """Rows of the words and known pairs of all sentences, and the number of rows of each sentence."""
        # All rows must be from one table: another thread may start a new one.
        table = self._table
        row_of, pairs = table.row_of.__getitem__, self._pairs.get
        rows: list[int] = []
        sizes = []
        for sentence in sentences:
            start = len(rows)
            words = sentence.split()
            try:
                rows += map(row_of, words)
            except KeyError:
                del rows[start:]
                rows += [self._row(table, word) for word in words]
            rows += [after[two] for one, two in pairwise(words) if (after := pairs(one)) and two in after]
            sizes.append(len(rows) - start)
        if table.is_full():
            self._table = self._new_table()
        return table, np.array(rows, dtype=np.int32), sizes

    def _row(self, table: "_Table", word: str) -> int:
        row = table.row_of.get(word)
        if row is not None:
            return row
        terms = [self._known[word]] if word in self._known else []
        for analyze, vocabulary, start in self._char_ngrams:
            terms += [start + vocabulary[piece] for piece in analyze(word) if piece in vocabulary]
        with self._growing:
            row = table.row_of.get(word)
            return table.add(word, terms) if row is None else row


class _Table:
    """Terms of each row, concatenated. The first rows are single terms: words and pairs.

    Attributes:
        sums: Sums of `values` over the terms of each row, shape (kinds of values * blocks, at least rows).
    """

    def __init__(self, alone: int, block_of: NDArray[np.intp], values: Floats) -> None:
        self.row_of: dict[str, int] = {}
        self.rows = self._alone = alone
        self._letters = 0
        self._block_of, self._values = block_of, values
        self._starts = np.arange(2 * alone + 1_001, dtype=np.int32)
        self._terms = np.arange(4 * alone + 10_000, dtype=np.int32)
        self._blocks = int(block_of[-1]) + 1
        self.sums = np.zeros((len(values) * self._blocks, len(self._starts)))
        self.sums[:: self._blocks, :alone] = values[:, :alone]

    def is_full(self) -> bool:
        """Whether the table is so large that a new one should take its place."""
        return (
            self.rows - self._alone > _MAX_CACHED
            or self._letters > _MAX_CACHED_LETTERS
            or int(self._starts[self.rows]) - self._alone > _MAX_CACHED_TERMS
        )

    def add(self, word: str, terms: Sequence[int]) -> int:
        """Add a row for a word. Only one thread at a time may call this."""
        row = self.rows
        start = int(self._starts[row])
        end = start + len(terms)
        # A grown array starts with the same rows, so another thread may read either.
        if row + 1 >= len(self._starts):
            self._starts = np.concatenate([self._starts, self._starts])
            self.sums = np.concatenate([self.sums, self.sums], axis=1)
        while end > len(self._terms):
            self._terms = np.concatenate([self._terms, self._terms])
        self._terms[start:end] = terms
        self._starts[row + 1] = end
        blocks = self._block_of[terms]
        self.sums[:, row] = np.concatenate([np.bincount(blocks, one[terms], self._blocks) for one in self._values])
        self.rows = row + 1
        self._letters += len(word)
        # Last, so that a thread that finds the word finds its row.
        self.row_of[word] = row
        return row

    def terms(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Concatenated terms of the rows, and the number of terms of each row."""
        starts = self._starts[rows]
        sizes = self._starts[rows + 1] - starts
        ends = np.cumsum(sizes, dtype=np.int32)
        return self._terms[np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)], sizes
