"""Shifting a numeric feature, to produce drift on purpose."""

import re
from typing import Any, NamedTuple

_SHIFT = re.compile(r"(?P<field>[^=]+)=(?P<sign>[*+-]?)(?P<number>.+)", re.DOTALL)


class Shift(NamedTuple):
    """`value * factor + delta` for one feature."""

    field: str
    factor: float
    delta: float

    def apply(self, features: dict[str, Any]) -> None:
        """Change `features` in place. A null stays null; an integer stays an integer if the result is whole.

        Raises:
            ValueError: the feature is missing or is not a number.
        """
        if self.field not in features:
            raise ValueError(f"cannot shift {self.field!r}: no such feature; the features are {', '.join(features)}")
        value = features[self.field]
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"cannot shift {self.field!r}: {value!r} is not a number")
        shifted = value * self.factor + self.delta
        features[self.field] = int(shifted) if isinstance(value, int) and shifted.is_integer() else shifted


def parse_shift(text: str) -> Shift:
    """A shift from `field=1.5` or `field=*1.5` (factor), `field=+2` or `field=-2` (delta).

    Raises:
        ValueError: the string has another form.
    """
    match = _SHIFT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        number = float(match["number"])
        if number - number != 0:  # infinite or NaN
            raise ValueError
    except ValueError:
        raise ValueError(f"{text!r} is not a shift: write field=1.5 (times 1.5), field=+2 or field=-2") from None
    field, sign = match["field"].strip(), match["sign"]
    if sign in ("+", "-"):
        return Shift(field, 1.0, -number if sign == "-" else number)
    return Shift(field, number, 0.0)
