"""What the notebooks draw and show alike. Nothing here knows a model of its own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.run_log import TrainingEntry

# Okabe and Ito's colours, which colour-blind people can tell apart too.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"


def use_style() -> None:
    """Set how all plots look."""
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "font.size": 10,
        }
    )


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> Markdown:
    """A table for the reader; floats with four digits."""
    rows = [header, ["---"] * len(header), *lines]
    return Markdown("\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows))  # type: ignore[no-untyped-call]


def interval(estimate: Estimate) -> str:
    """A metric with its 95 % confidence interval."""
    return f"{estimate.mean:,.4g} ({estimate.low:,.4g} to {estimate.high:,.4g})"


def candidates(entry: TrainingEntry, metrics: Mapping[str, str]) -> None:
    """Each candidate's cross-validated metrics with their 95 % confidence intervals; the chosen candidate is blue.

    Args:
        metrics: the title of each metric's panel.
    """
    _, panels = plt.subplots(1, len(metrics), figsize=(4.2 * len(metrics), 0.5 * len(entry.models) + 1.2), sharey=True)
    for axes, (metric, title) in zip(np.atleast_1d(panels), metrics.items(), strict=True):
        for place, model in enumerate(entry.models):
            one = model.cross_validation[metric]
            colour = BLUE if model.id == entry.chosen else GREY
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2)
            axes.plot(one.mean, place, "o", color=colour, markersize=8)
            axes.annotate(
                f"{one.mean:,.4g}", (one.mean, place), (0, 8), textcoords="offset points", ha="center", color=colour
            )
        axes.set(title=title, ylim=(len(entry.models) - 0.4, -0.7))
        axes.set_yticks(range(len(entry.models)), [model.candidate for model in entry.models])
        axes.grid(axis="x", alpha=0.3)
    plt.show()


def proportions(axes: Axes, labels: Sequence[str], hits: ArrayLike, counts: ArrayLike, colours: Any = BLUE) -> None:
    """Bars of shares in per cent with Wilson's 95 % intervals; below each label is the number of rows."""
    hit, count = np.asarray(hits, dtype=float), np.asarray(counts, dtype=float)
    share, z = hit / count, 1.96
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    error = 100 * np.clip([share - (centre - half), centre + half - share], 0, None)
    axes.bar(range(len(labels)), 100 * share, color=colours, yerr=error, ecolor="#444444", capsize=3)
    axes.set_xticks(
        range(len(labels)), [f"{label}\n({number:,.0f})" for label, number in zip(labels, count, strict=True)]
    )
    axes.set_ylim(0, 105)
    axes.yaxis.set_major_formatter("{x:.0f} %")


def importance(
    model: MLEModel, rows: Sequence[Any], labels: Sequence[Any], *, repeats: int, seed: int
) -> dict[str, tuple[float, float]]:
    """How much the primary metric falls when a field of the request is shuffled among rows: mean and deviation.

    scikit-learn's permutation importance, of requests instead of the estimator's inputs: inputs that are made from one
    field, such as `male` and a title, would stand in for each other.
    """
    from sklearn.inspection import permutation_importance

    fields = list(model.Features.__struct_fields__)
    values = np.empty((len(rows), len(fields)), dtype=object)
    for column, field in enumerate(fields):
        values[:, column] = [getattr(row, field) for row in rows]

    def score(_: object, shuffled: Any, true: Sequence[Any]) -> float:
        answers = model.predict([model.Features(*row) for row in shuffled])
        return float(model.evaluate(answers, true)[model.primary_metric])

    found = permutation_importance(model, values, labels, scoring=score, n_repeats=repeats, random_state=seed)
    pairs = zip(found.importances_mean.tolist(), found.importances_std.tolist(), strict=True)
    return dict(zip(fields, pairs, strict=True))


def bars(values: dict[str, tuple[float, float]], *, title: str, xlabel: str) -> None:
    """Values with their deviations, the greatest on top; grey where they are within two deviations of 0."""
    order = sorted(values, key=lambda name: values[name][0])
    _, axes = plt.subplots(figsize=(7, 0.32 * len(order) + 1.1))
    heights, errors = zip(*(values[name] for name in order), strict=True)
    signs = [height / max(error, 1e-12) for height, error in zip(heights, errors, strict=True)]
    colours = [BLUE if sign > 2 else RED if sign < -2 else GREY for sign in signs]
    axes.barh(order, heights, xerr=errors, color=colours, ecolor="#444444", capsize=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(title=title, xlabel=xlabel)
    plt.show()


def _cell(value: object) -> str:
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
