"""Colors, fonts and measures of the pictures."""

from monitoring.dashboards.source import COLORS, Threshold

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first one comes with vl-convert, so that a machine without fonts draws the same picture."""
INK, GREY, LINE, GROUND, PAPER = "#343741", "#69707D", "#D3DAE6", "#F1F4FA", "#FFFFFF"
PALETTE = (
    *(COLORS[name] for name in ("main", "third", "second")),
    *("#3FA0C4", "#B0578D", "#7C8B3A", "#2F4B7C", "#A87745", "#5C6B7A", "#6FA8DC", "#8C4A2F"),
)
"""For values to which the source gives no color, in turn. None of them means fine or wrong."""


def color(name: str) -> str:
    """A color of a source as hexadecimal."""
    return COLORS.get(name, name)


def by_threshold(thresholds: tuple[Threshold, ...], value: object) -> str | None:
    """The color of a number; None where no threshold is reached."""
    if not isinstance(value, int | float):
        return None
    reached = [one.color for one in thresholds if value >= one.value]
    return color(reached[-1]) if reached else None


def in_turn(names: list[str], given: dict[str, str]) -> dict[str, str]:
    """A color for each name: the given one, or the next of the palette that no one is given."""
    taken = {color(one) for one in given.values()}
    free = [one for one in PALETTE if one not in taken] or list(PALETTE)
    rest = [name for name in names if name not in given]
    return {name: color(given[name]) if name in given else free[rest.index(name) % len(free)] for name in names}
