"""Structure-aware mutations of valid inputs, bounds on what reading them may cost, and doses of examples.

Every harness begins with inputs that the product's own encoders made, so that they never go stale. `mutated` changes
them: bytes, tokens (of JSON, and just as well of CSV, TOML or Prometheus' format), repeated and spliced parts.
"""

import os
import random
import re
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import hypothesis
from hypothesis import strategies as st

from tests.support.doses import FULL

SECRET = "qWx7Zk9!secret"
"""Stands in corpora wherever a value is personal or secret: no message may quote it. It can't be a name of a field."""
SEED = int(os.environ.get("INFLIGHT_TEST_SEED") or random.SystemRandom().randrange(1_000_000)) if FULL else 0

_LONGER = float(os.environ.get("INFLIGHT_FUZZ_FACTOR") or 20.0)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.0-9A-Za-z_@:/]+|[^\s]')
_MEMBER = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[-+.0-9a-zA-Z]+)')
_F = TypeVar("_F", bound=Callable[..., Any])

TOKENS: tuple[bytes, ...] = (
    *(b"null", b"true", b"false", b"0", b"-1", b"1.5", b"3.0", b"-0.0", b"NaN", b"Infinity", b"-Infinity", b"007"),
    *(
        b"9007199254740993",
        b"9223372036854775808",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"253402300800000",
    ),
    *(b"1e308", b"-1e308", b"1e309", b"1e999999", b"5e-324", b"9" * 400, b"9" * 5_000, b"1." + b"3" * 1_200),
    *(b"[]", b"{}", b"[[]]", b'""', b'{"a":1,"a":2}', b'[1,"a",null]', b'{"":1}', b'{"a":{"b":1},"a.b":"x"}'),
    *(b'"\\u0000"', b'"\\ud800"', b'"\\u202e"', b'"\\u001b[31m"', b'"\\n"', b"\x1b]0;x\x07", "\u2028".encode()),
    *(b'"x\xff"', b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\0", b"\r\n", b"\\", b'"', "\U0001f600é".encode()),
    *(b'"0001-01-01T00:00:00+18:00"', b'"9999-12-31T23:59:59.999999-18:00"', b'"2026-01-01T00:00:00"'),
    *(b'"2026-01-01T00:00:00+23:59"', b'"1969-12-31T23:59:59Z"', b'"2100-02-29T24:00:00Z"', b'"now"', b'"-1"'),
    *(b"[" * 60 + b"]" * 60, b'{"a":' * 60 + b"1" + b"}" * 60, b"[" * 5_000 + b"]" * 5_000, b"[" * 20_000),
    *(b'"' + b"x" * 700 + b'"', b'"' + b"y" * 40_000 + b'"', b"{{a}}", b"${HOME}", b"../../x", b"=1+1", b",,", b";"),
)
"""What decoders are asked to take in place of any token."""


def dose(examples: int) -> Callable[[_F], _F]:
    """Settings of a harness: the same few examples in `make test`, many new ones from a printed seed in full doses.

    A failing example is printed as a reproducible case, and kept in `.hypothesis/examples`, where the next run begins.
    """

    def decorate(test: _F) -> _F:
        quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture]
        quiet += [hypothesis.HealthCheck.filter_too_much, hypothesis.HealthCheck.data_too_large]
        common: dict[str, Any] = {"deadline": None, "suppress_health_check": quiet, "print_blob": True}
        if not FULL:
            return hypothesis.settings(max_examples=examples, derandomize=True, database=None, **common)(test)
        many = hypothesis.settings(max_examples=int(examples * _LONGER), derandomize=False, **common)
        return hypothesis.seed(SEED)(many(test))

    return decorate


def mutated(corpus: Sequence[bytes], *, unchanged: bool = True, most: int = 3) -> st.SearchStrategy[bytes]:
    """Inputs of a corpus with up to `most` mutations; the first ones unchanged, unless that is switched off."""
    return st.builds(
        lambda base, steps: _apply(base, steps, corpus),
        st.sampled_from(corpus),
        st.lists(
            st.tuples(st.sampled_from(_MUTATIONS), st.integers(0, 65_535), st.integers(0, 65_535)),
            min_size=0 if unchanged else 1,
            max_size=most,
        ),
    )


def _apply(data: bytes, steps: list[tuple[Any, int, int]], corpus: Sequence[bytes]) -> bytes:
    for step, one, other in steps:
        data = step(data, one, other, corpus)
    # A few repetitions of long tokens are enough: larger inputs are the affair of the tests of limits.
    return data[: 1 << 20]


def _flip(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([other % 256])
    at = one % len(data)
    return data[:at] + bytes([data[at] ^ (1 << other % 8)]) + data[at + 1 :]


def _byte(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    at = one % (len(data) + 1)
    return data[:at] + bytes([other % 256]) + data[at + other // 256 % 2 :]


def _cut(data: bytes, one: int, _other: int, _corpus: Sequence[bytes]) -> bytes:
    return data[: one % (len(data) + 1)]


def _remove(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    start = one % (len(data) + 1)
    return data[:start] + data[start + other % 64 :]


def _repeat(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    start = one % (len(data) + 1)
    end = start + other % 256
    return data[:end] + data[start:end] + data[end:]


def _splice(data: bytes, one: int, other: int, corpus: Sequence[bytes]) -> bytes:
    with_ = corpus[other % len(corpus)]
    return data[: one % (len(data) + 1)] + with_[(one * 31 + other) % (len(with_) + 1) :]


def _token(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    found = list(_TOKEN.finditer(data[:100_000]))
    if not found:
        return TOKENS[other % len(TOKENS)]
    at = found[one % len(found)]
    return data[: at.start()] + TOKENS[other % len(TOKENS)] + data[at.end() :]


def _swap(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    found = list(_TOKEN.finditer(data[:100_000]))
    if not found:
        return data
    first, second = sorted((one % len(found), other % len(found)))
    a, b = found[first], found[second]
    return data[: a.start()] + b[0] + data[a.end() : b.start()] + (a[0] if a != b else b"") + data[b.end() :]


def _value(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    """Another value of a member of an object: more often something that a field may accept than `_token` makes."""
    found = list(_MEMBER.finditer(data[:100_000]))
    if not found:
        return _token(data, one, other, _corpus)
    at = found[one % len(found)]
    name = at[0].partition(b":")[0] if at[0][:1] != b'"' else at[0][: at[0].index(b'"', 1) + 1]
    return data[: at.start()] + name + b":" + TOKENS[other % len(TOKENS)] + data[at.end() :]


def _key_twice(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    found = list(_MEMBER.finditer(data[:100_000]))
    if not found:
        return data
    at, copied = found[one % len(found)], found[other % len(found)]
    return data[: at.start()] + copied[0] + b"," + data[at.start() :]


def _line(data: bytes, one: int, other: int, _corpus: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join([*lines[: one % len(lines)], lines[other % len(lines)], *lines[one % len(lines) :]])


_MUTATIONS = (_flip, _byte, _cut, _remove, _repeat, _splice, _token, _token, _swap, _value, _value, _key_twice, _line)


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Within the block, an input of this many bytes may take CPU time and memory in proportion, and no more.

    Memory is measured in full doses only: tracing it makes everything several times slower.
    """
    if FULL:
        tracemalloc.start()
    started = time.process_time()
    try:
        yield
        used = time.process_time() - started
        assert used < 2.0 + size * 50e-6, f"{used:.1f} s of CPU time for {size:,} bytes"
        if FULL:
            _, peak = tracemalloc.get_traced_memory()
            assert peak < (16 << 20) + 100 * size, f"{peak:,} bytes of memory for {size:,} bytes"
    finally:
        if FULL:
            tracemalloc.stop()


def check_message(message: str, *, limit: int = 6_000) -> None:
    """Check a message for operators: bounded, and without the secret of the corpora."""
    assert SECRET not in message, f"a message quotes a value: {message!r:.300}"
    assert len(message) <= limit, f"a message of {len(message):,} characters: {message!r:.300}"


def check_terminal(text: str) -> None:
    """Check that a text cannot control a terminal: nothing of the categories Cc, Cf and Cs but line breaks and tabs."""
    bad = {c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert not bad, f"characters that control a terminal: {bad!r}"
