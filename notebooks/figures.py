"""Plots and tables that the notebooks share."""

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

# Colours of Okabe and Ito, which colour-blind people can distinguish.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8A8A8A"


def use_style() -> None:
    """Set the style of all plots."""
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
    """A Markdown table; floats have four significant digits."""
    rows = [header, ["---"] * len(header), *lines]
    return Markdown("\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows))  # type: ignore[no-untyped-call]


def interval(estimate: Estimate) -> str:
    """A metric with its 95 % confidence interval."""
    return f"{estimate.mean:,.4g} ({estimate.low:,.4g} to {estimate.high:,.4g})"


def candidates(entry: TrainingEntry, metrics: Mapping[str, str]) -> None:
    """Plot the cross-validated metrics of the candidates with 95 % intervals; the chosen candidate is blue.

    Args:
        metrics: Title of the panel by metric.
    """
    _, panels = plt.subplots(1, len(metrics), figsize=(4.2 * len(metrics), 0.5 * len(entry.models) + 1.2), sharey=True)
    for axes, (metric, title) in zip(np.atleast_1d(panels), metrics.items(), strict=True):
        for row, model in enumerate(entry.models):
            one = model.cross_validation[metric]
            colour = BLUE if model.id == entry.chosen else GREY
            axes.plot([one.low, one.high], [row, row], color=colour, linewidth=2)
            axes.plot(one.mean, row, "o", color=colour, markersize=8)
            axes.annotate(
                f"{one.mean:,.4g}", (one.mean, row), (0, 8), textcoords="offset points", ha="center", color=colour
            )
        axes.set(title=title, ylim=(len(entry.models) - 0.4, -0.7))
        axes.set_yticks(range(len(entry.models)), [model.candidate for model in entry.models])
        axes.grid(axis="x", alpha=0.3)
    plt.show()


def proportions(axes: Axes, labels: Sequence[str], hits: ArrayLike, counts: ArrayLike, colours: Any = BLUE) -> None:
    """Plot shares in per cent with Wilson's 95 % intervals; the number of rows is below each label."""
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
    """Permutation importance of each request field: mean and standard deviation of the fall of the primary metric.

    Fields of requests are shuffled instead of inputs of the estimator, because inputs from one field, such as `male`
    and a title, would replace each other.
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
    """Plot values with standard deviations, the greatest on top; grey within two deviations of 0."""
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
