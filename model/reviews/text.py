"""A review's text as sentences, and a sentence as terms. Plain functions of texts."""

import re

MAX_SENTENCES = 200
"""What follows the last of so many sentences counts as part of it, so that an answer is bounded in size."""

# A line break ends a sentence; so do stops with what closes behind them, where a space follows.
_END = re.compile(r"""\s*[\r\n]+\s*|(?<=[.!?…])["')\]]*\s+""")
# Words after which a full stop does not end a sentence, and initials.
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:mr|mrs|ms|dr|st|vs|e\.g|i\.e|cf|inc|ltd|approx|jr|sr|[a-hj-z])\.$")
_WORDY = re.compile(r"[^\W_]|[!?]")

_TERM = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*|[!?]|[.,;:()]|--")
_NEGATION = re.compile(
    r"not?|never|none|nothing|neither|nor|cannot|without|hardly|barely|\w+n't"
    r"|(?:do|does|did|wo|ca|is|was|could|would|should|have|has|ai)nt"
)
_SCOPE = 3
_CONTRAST = frozenset({"but", "however", "although", "though"})


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the space around them; none is empty.

    A piece without a letter, digit, exclamation or question mark is left out. A text of no other pieces has no
    sentence.
    """
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.start()]
        if "\n" not in end[0] and "\r" not in end[0] and _ABBREVIATION.search(piece[-12:].lower()):
            continue
        # What closes a quotation or bracket belongs to the sentence before it.
        piece = (piece + end[0]).strip()
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
    """The words and the `!` and `?` of a sentence in lower case, parted by spaces.

    Words after a negation are marked, as in ``not good_not``: up to three of them, and not beyond a stop or a contrast.
    Numbers are left out.
    """
    terms = []
    negated = 0
    for term in _TERM.findall(sentence.lower().replace("\u2019", "'")):
        if not term[0].isalpha():
            negated = 0
            if term in "!?":
                terms.append(term)
            continue
        if term in _CONTRAST:
            negated = 0
        terms.append(f"{term}_not" if negated else term)
        negated = _SCOPE if _NEGATION.fullmatch(term) else max(0, negated - 1)
    return " ".join(terms)
