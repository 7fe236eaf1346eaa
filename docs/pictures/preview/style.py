"""Colors, fonts and measures of the pictures."""

from monitoring.dashboards.source import COLORS, Threshold

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first one comes with vl-convert, so that a machine without fonts draws the same picture."""
INK, GREY, LINE, GROUND, PAPER = "#343741", "#69707D", "#D3DAE6", "#F1F4FA", "#FFFFFF"
PALETTE = (
    *(COLORS[name] for name in ("main", "third", "good", "second", "warning", "bad")),
    *("#5AA9C9", "#B0578D", "#7C8B3A", "#98A2B3", "#2F4B7C", "#C98F5A"),
)
"""For values to which the source gives no color, in turn."""


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
