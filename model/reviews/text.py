"""Split a review into sentences and a sentence into terms."""

import re
from functools import lru_cache
from typing import Literal

MAX_SENTENCES = 200
"""Maximum number of sentences; the last one holds the rest of the text, so that a prediction is bounded in size."""

# A line break ends a sentence; so does a stop with closing quotes or brackets before a space.
# The pattern begins with one character set, which makes the search fast.
_END = re.compile(r"""[\r\n.!?…](?:(?<=[\r\n])\s*|["')\]]*\s+)""")
# Abbreviations and initials, after which a full stop does not end a sentence.
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:mr|mrs|ms|dr|st|vs|e\.g|i\.e|cf|inc|ltd|approx|jr|sr|[a-hj-z])\.$")
_WORDY = re.compile(r"[^\W_]|[!?]")

_TERM = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[!?]|[.,;:()]|--")
# The same for lower-case ASCII, twice as fast.
_ASCII_TERM = re.compile(r"[a-z]+(?:'[a-z]+)*|[!?.,;:()]|--")
_NEGATIONS = frozenset(
    ["no", "not", "never", "none", "nothing", "neither", "nor", "cannot", "without", "hardly", "barely"]
    + [
        f"{verb}nt"
        for verb in ["do", "does", "did", "wo", "ca", "is", "was", "could", "would", "should", "have", "has", "ai"]
    ]
)
_NEGATED_VERB = re.compile(r"\w+n't")
_SCOPE = 3
_STOPS = frozenset([*".,;:()", "--"])
_MAX_CACHED_LETTERS = 40
_CONTRAST = frozenset({"but", "however", "although", "though"})


def split_sentences(text: str) -> list[str]:
    """Sentences of a text in order, stripped of white space.

    Sentences without any letter, digit, exclamation or question mark are dropped, so the result may be empty.
    """
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        gap = end[0]
        if gap[0] == "." and "\n" not in gap and "\r" not in gap:
            before = text[max(start, end.start() - 11) : end.start() + 1]
            if _ABBREVIATION.search(before.lower()):
                continue
        # Closing quotes and brackets belong to the sentence before them.
        piece = text[start : end.end()].strip()
        start = end.end()
        if _WORDY.search(piece):
            found.append(piece)
        if len(found) == MAX_SENTENCES - 1:
            break
    rest = text[start:].strip()
    if _WORDY.search(rest):
        found.append(rest)
    return found


def marked_terms(sentence: str) -> str:
    """Words, `!` and `?` of a sentence in lower case, separated by spaces.

    Up to three words after a negation are marked, as in ``not good_not``, but none after a stop or a contrast. Numbers
    are dropped.
    """
    plain = sentence.lower()
    if plain.isascii():
        found = _ASCII_TERM.findall(plain)
    else:
        plain = plain.replace("\u2019", "'")
        found = _TERM.findall(plain)
    if "n't" not in plain and _NEGATIONS.isdisjoint(found):
        # Fast path for most sentences, with the same result as below.
        return " ".join([term for term in found if term not in _STOPS])
    terms = []
    negated = 0
    for term in found:
        # Longer ones are rare, and a cache of them would have no bound in bytes.
        kind = _kind(term) if len(term) <= _MAX_CACHED_LETTERS else _kind.__wrapped__(term)
        if kind is None:
            if negated:
                negated -= 1
                term = f"{term}_not"
            terms.append(term)
        elif kind == "negation":
            terms.append(f"{term}_not" if negated else term)
            negated = _SCOPE
        else:
            negated = 0
            if kind == "term":
                terms.append(term)
    return " ".join(terms)


# Cached, because it is called for every word of every sentence.
@lru_cache(maxsize=20_000)
def _kind(term: str) -> Literal["negation", "term", "stop"] | None:
    """Kind of a term, None for most words. A "term" and a "stop" end a negation; a "stop" is dropped."""
    if term in _CONTRAST or term in "!?":
        return "term"
    if term in _STOPS:
        return "stop"
    return "negation" if term in _NEGATIONS or _NEGATED_VERB.fullmatch(term) else None
