"""The linear part of the model on sentences, as scikit-learn's TF-IDF and logistic regression compute it, but fast.

Most of the time of scikit-learn's way goes into cutting the same words into the same pieces again and again. Here each
word is cut once, and its terms are remembered.
"""

import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_REMEMBERED = 50_000
"""So many words, of about 250 bytes each, are remembered; then all are forgotten, and remembered anew."""
_CHUNK = 64
"""So many sentences at a time: what is computed of them stays in the processor's cache."""
# The weight of a term that occurs so often in a sentence; 0 times is never asked for.
_LOGARITHMS: Floats = 1.0 + np.log(np.maximum(np.arange(64), 1))


class SentenceScorer:
    """Logits of sentences under a fitted model. Threads may share it.

    Args:
        vectorizers: fitted `TfidfVectorizer`s with sublinear term frequencies and Euclidean norms. The first is of
            words and pairs of words, parted by spaces; further ones (`char_wb`) are of pieces of single words.
        coefficients: the weights of their terms, of shape (number of all terms,).
        intercept: what a sentence without a known term gets.
    """

    def __init__(self, vectorizers: Sequence[Any], coefficients: Floats, intercept: float) -> None:
        sizes = [len(vectorizer.vocabulary_) for vectorizer in vectorizers]
        self._blocks = len(sizes)
        self._block_of = np.repeat(np.arange(len(sizes)), sizes)
        idf = np.concatenate([vectorizer.idf_ for vectorizer in vectorizers])
        self._weights = idf * coefficients
        self._squares = idf * idf
        self._intercept = intercept
        self._words = _Words(vectorizers, sizes)

    def score(self, sentences: Sequence[str]) -> tuple[Floats, Floats]:
        """For each sentence its logit, and how many of its terms, each counted once, are known."""
        logits, known = np.empty(len(sentences)), np.empty(len(sentences))
        for start in range(0, len(sentences), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            logits[chunk], known[chunk] = self._score(sentences[chunk])
        return logits, known

    def _score(self, sentences: Sequence[str]) -> tuple[Floats, NDArray[np.intp]]:
        count, blocks = len(sentences), self._blocks
        sentence, term, counts = self._words.count(sentences)
        frequency = _LOGARITHMS[counts] if counts.max(initial=0) < len(_LOGARITHMS) else 1.0 + np.log(counts)
        block = sentence * blocks + self._block_of[term]
        squares = frequency * frequency * self._squares[term]
        lengths = np.sqrt(np.bincount(block, squares, count * blocks)).reshape(count, blocks)
        sums = np.bincount(block, frequency * self._weights[term], count * blocks).reshape(count, blocks)
        logits = np.full(count, self._intercept)
        # Column by column: the order of a sum over an axis may depend on how many rows there are. No term, no length.
        for column in range(blocks):
            logits += sums[:, column] / np.maximum(lengths[:, column], 1e-300)
        return logits, np.bincount(sentence, minlength=count)


class _Words:
    """Words, and what terms each holds: its own, and its pieces."""

    def __init__(self, vectorizers: Sequence[Any], sizes: Sequence[int]) -> None:
        words, *pieces = vectorizers
        self._known: Mapping[str, int] = words.vocabulary_
        starts = np.cumsum([0, *sizes]).tolist()
        self._pieces = [
            (vectorizer.build_analyzer(), vectorizer.vocabulary_, start)
            for vectorizer, start in zip(pieces, starts[1:], strict=False)
        ]
        self._terms = starts[-1]
        self._growing = threading.Lock()
        self._table = _Table(len(self._known))

    def count(self, sentences: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """The position of a sentence, one of its terms, and how often it occurs there; sorted, each pair once."""
        # All rows have to be of one table: another thread may begin a new one.
        table = self._table
        row_of, pair_row = table.row_of.__getitem__, self._known.get
        rows: list[int] = []
        ends = [0]
        for sentence in sentences:
            words = sentence.split()
            try:
                rows += map(row_of, words)
            except KeyError:
                del rows[ends[-1] :]
                rows += [self._row(table, word) for word in words]
            rows += [row for row in map(pair_row, map(" ".join, pairwise(words))) if row is not None]
            ends.append(len(rows))
        if table.rows > _REMEMBERED + len(self._known):
            self._table = _Table(len(self._known))
        terms, sizes = table.terms(np.array(rows, dtype=np.int32))
        # Equal keys are the same term of the same sentence. Short integers are sorted three times as fast.
        total = np.concatenate(([0], np.cumsum(sizes)))[ends]
        short: Any = np.int32 if len(sentences) * self._terms < 2**31 else np.int64
        position: NDArray[Any] = np.repeat(np.arange(len(sentences), dtype=short), np.diff(total))
        keys = position * short(self._terms) + terms
        keys.sort()
        new = np.ones(len(keys), dtype=bool)
        np.not_equal(keys[1:], keys[:-1], out=new[1:])
        first = np.flatnonzero(new)
        # Sorting has left the positions where they were.
        position = position[first]
        return position, keys[first] - position * short(self._terms), np.diff(first, append=len(keys))

    def _row(self, table: "_Table", word: str) -> int:
        row = table.row_of.get(word)
        if row is not None:
            return row
        terms = [self._known[word]] if word in self._known else []
        for analyze, vocabulary, start in self._pieces:
            terms += [start + vocabulary[piece] for piece in analyze(word) if piece in vocabulary]
        with self._growing:
            row = table.row_of.get(word)
            return table.add(word, terms) if row is None else row


class _Table:
    """The terms of each row, one row after the other. The first rows are single terms: those of words and of pairs."""

    def __init__(self, alone: int) -> None:
        self.row_of: dict[str, int] = {}
        self.rows = alone
        self._starts = np.arange(2 * alone + 1_001, dtype=np.int32)
        self._terms = np.arange(4 * alone + 10_000, dtype=np.int32)

    def add(self, word: str, terms: Sequence[int]) -> int:
        """A row for a word. Only one thread at a time may add."""
        row = self.rows
        start = int(self._starts[row])
        end = start + len(terms)
        # Grown arrays begin with the same rows, so that it does not matter which of them another thread reads.
        if row + 1 >= len(self._starts):
            self._starts = np.concatenate([self._starts, self._starts])
        while end > len(self._terms):
            self._terms = np.concatenate([self._terms, self._terms])
        self._terms[start:end] = terms
        self._starts[row + 1] = end
        self.rows = row + 1
        # Last: who finds the word finds its row there.
        self.row_of[word] = row
        return row

    def terms(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The terms of the rows, one row after the other, and how many each row has."""
        starts = self._starts[rows]
        sizes = self._starts[rows + 1] - starts
        ends = np.cumsum(sizes, dtype=np.int32)
        return self._terms[np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)], sizes
