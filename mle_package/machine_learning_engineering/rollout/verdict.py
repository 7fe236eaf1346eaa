"""Verdicts of a stage: what the evidence says, check by check, and what it waits for."""

from typing import Literal

from msgspec import Struct

Status = Literal["pass", "fail", "waiting"]


class Check(Struct, frozen=True, omit_defaults=True):
    """One check. `value` and `limit` are in the unit that `name` implies; `detail` is a sentence for people."""

    name: str
    status: Status
    detail: str
    value: float | None = None
    limit: float | None = None


class Verdict(Struct, frozen=True, omit_defaults=True):
    """`fail` if one check fails, else `waiting` if one waits, else `pass`.

    `reason` names what failed, what it waits for, or what passed.
    """

    status: Status
    reason: str
    checks: tuple[Check, ...] = ()
