# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a diamond costs
#
# The data, the training, the quality of the model, the importance of its features, and requests on the stream. The
# notebook only calls the product's modules and draws. It works in a temporary folder and leaves nothing behind. The
# [model card](../docs/model_cards/diamonds.md) states the purpose of the model.

# %%
import random
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import msgspec
import numpy as np

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import load_settings
from machine_learning_engineering.training import layers
from machine_learning_engineering.training.pipeline import run_training
from model.diamonds.features import Clarity, Color
from model.diamonds.model import Diamonds
from notebooks import figures
from notebooks.figures import BLUE, GREEN, GREY, ORANGE

figures.use_style()
home = tempfile.TemporaryDirectory(prefix="inflight-notebook-")
settings = load_settings().model_copy(update={"home": Path(home.name)})

# %% [markdown]
# ## The data
#
# 53,940 diamonds with their prices in US dollars. Each line below is a field of a request.

# %%
examples = list(Diamonds.examples(settings.data_dir))
data = {name: np.array([example.features[name] for example in examples]) for name in examples[0].features}
price = np.array([example.label for example in examples])


def describe(values: np.ndarray) -> str:
    if values.dtype.kind == "U":
        return ", ".join(np.unique(values))
    return f"{values.min():g} to {values.max():g}, median {np.median(values):g}"


figures.table(
    ["field", "zeros", "values"],
    [
        (name, (values == 0).sum() if values.dtype.kind == "f" else "", describe(values))
        for name, values in data.items()
    ],
)

# %% [markdown]
# No value is missing, but 20 stones have a length of 0, which the model treats as unknown. Three lengths above 30 mm
# are typing errors (the longest stone has 11 mm). 345 stones equal an earlier one in every field: equal stones stay on
# one side of the split, so none is used for both fitting and testing.

# %%
_, panels = plt.subplots(1, 2, figsize=(10, 3.6))
panels[0].hist(price, np.geomspace(price.min(), price.max(), 60), color=BLUE)
panels[0].set_xscale("log")
panels[0].set(title="Stones by price", xlabel="US dollars", ylabel="stones")
panels[0].set_xticks([500, 1_000, 2_000, 5_000, 10_000], ["500", "1,000", "2,000", "5,000", "10,000"])
panels[0].minorticks_off()
drawn = panels[1].hexbin(
    data["carat"], price, xscale="log", yscale="log", gridsize=60, bins="log", mincnt=1, cmap="viridis"
)
panels[1].set(title="Price by weight", xlabel="carat", ylabel="US dollars")
panels[1].set_xticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
panels[1].set_yticks([500, 1_000, 2_000, 5_000, 10_000], ["500", "1,000", "2,000", "5,000", "10,000"])
panels[1].minorticks_off()
plt.colorbar(drawn, ax=panels[1], label="stones")
plt.show()

# %% [markdown]
# Prices range from 326 to 18,823 dollars with two modes, small stones and stones near one carat. The gap at about 1,500
# dollars is a peculiarity of the data. On logarithmic axes price and weight lie along a line: the price grows as a
# power of the weight. So errors grow with the price, and the candidates fit relative errors. The bright stripes are
# popular weights, such as just above 1 carat.

# %%
one_carat = (data["carat"] >= 0.95) & (data["carat"] <= 1.1)
_, panels = plt.subplots(1, 2, figsize=(10, 3.4))
grades = get_args(Clarity)
for axes, chosen, title in (
    (panels[0], np.full(len(price), True), "Median price, all stones"),
    (panels[1], one_carat, "Median price, stones of about 1 carat"),
):
    medians = [np.median(price[chosen & (data["clarity"] == grade)]) for grade in grades]
    axes.bar(grades, medians, color=BLUE)
    axes.set(title=title, xlabel="clarity, from worst to best", ylabel="US dollars")
    axes.yaxis.set_major_formatter("{x:,.0f}")
plt.show()

# %% [markdown]
# On the left the clearest stones seem cheap, because most of them are small. On the right, for stones of the same
# weight, the order is as expected, with a factor of nearly four between the ends. A grade means little without the
# weight, so trees, or a linear model with interactions, do better than additive grades.

# %%
medians = np.full((len(get_args(Color)), len(grades)), np.nan)
for row, column in np.ndindex(medians.shape):
    cell = price[one_carat & (data["color"] == get_args(Color)[row]) & (data["clarity"] == grades[column])]
    if len(cell):
        medians[row, column] = np.median(cell)
_, axes = plt.subplots(figsize=(8, 3.8))
axes.imshow(medians, cmap="Blues", aspect="auto", vmax=1.3 * np.nanmax(medians))
for (row, column), value in np.ndenumerate(medians):
    axes.text(column, row, "none" if np.isnan(value) else f"{value:,.0f}", ha="center", va="center", fontsize=9)
axes.set_xticks(range(len(grades)), grades)
axes.set_yticks(range(7), get_args(Color))
axes.set(title="Median price of stones of about 1 carat", xlabel="clarity, best right", ylabel="color, best below")
plt.show()

# %% [markdown]
# Colour and clarity multiply: at the same weight, the best of both costs seven times the worst of both. Colour matters
# little in a stone that is not clear.

# %% [markdown]
# ## Training
#
# `inflight train diamonds` calls `run_training`. It writes the three data layers, cross-validates and fits each
# candidate, chooses one, measures it on a held-out fifth of the stones, and saves it in the registry. To finish in
# seconds, this notebook uses 12,000 random stones and default parameters; the command uses all stones and searches
# XGBoost's parameters with Optuna. The model card has its figures.

# %%
sample = random.Random(settings.seed).sample(examples, 12_000)
entry = run_training(Diamonds, settings.model_copy(update={"train_n_models": 3}), examples=sample)
figures.table(
    ["candidate", *entry.models[0].cross_validation],
    [(one.candidate, *map(figures.interval, one.cross_validation.values())) for one in entry.models],
)

# %%
figures.candidates(
    entry,
    {
        "r2": "R² (variance explained)",
        "mae": "Mean absolute error, dollars",
        "rmse": "Root mean squared error, dollars",
    },
)

# %% [markdown]
# Both kinds of trees beat the linear model and are about equal; for errors smaller is better. The rule chooses the
# simplest candidate within one standard error of the best (blue). Single stones cause the wide interval of the linear
# model: one with three unknown lengths is predicted 100,000 dollars too high. Trees do not extrapolate like that.

# %%
print(entry.selection)
figures.table(
    ["candidate", "rows per second, one by one", "in batches of 1,024"],
    [(one.candidate, f"{one.rows_per_second['1']:,}", f"{one.rows_per_second['1024']:,}") for one in entry.models],
)

# %% [markdown]
# ## Quality
#
# All figures below are measured on the held-out fifth. The model is opened from the registry with verified digests, as
# in a worker.

# %%
model = Registry(settings.registry_dir).open("diamonds", model_class=Diamonds)
rows, labels = layers.rows_of(model, layers.read(Path(entry.layers["silver"].path))[1])
parts = layers.read(Path(entry.layers["gold"].path))[1]["part"].to_pylist()
held_out = [row for row, part in zip(rows, parts, strict=True) if part == layers.HELD_OUT]
truth = np.array([label for label, part in zip(labels, parts, strict=True) if part == layers.HELD_OUT])
predicted = np.array([answer.price for answer in model.predict(held_out)])
figures.table(
    ["metric", f"on {len(held_out):,} held-out rows"], [(k, figures.interval(v)) for k, v in entry.held_out.items()]
)

# %%
off = 100 * (predicted / truth - 1)
_, panels = plt.subplots(1, 2, figsize=(10, 4))
drawn = panels[0].hexbin(
    truth, predicted, xscale="log", yscale="log", gridsize=50, bins="log", mincnt=1, cmap="viridis"
)
panels[0].plot([300, 19_000], [300, 19_000], "--", color="white", linewidth=2)
panels[0].plot([300, 19_000], [300, 19_000], "--", color="black", linewidth=1)
ticks = [500, 1_000, 2_000, 5_000, 10_000]
for set_ticks in (panels[0].set_xticks, panels[0].set_yticks):
    set_ticks(ticks, [f"{tick:,}" for tick in ticks])
panels[0].minorticks_off()
panels[0].set(title="Predicted against true price", xlabel="true, dollars", ylabel="predicted, dollars")
plt.colorbar(drawn, ax=panels[0], label="stones")
panels[1].hist(off, np.arange(-40, 41, 2), color=BLUE)
panels[1].axvline(0, color="black", linewidth=1)
panels[1].set(
    title="Residuals in per cent of the price", xlabel="too low           per cent           too high", ylabel="stones"
)
plt.show()
for limit in (10, 20):
    print(f"{100 * np.mean(abs(off) <= limit):.0f} % of stones are predicted within {limit} % of the true price")

# %% [markdown]
# Predictions follow the dashed line, where predicted and true price are equal, over the whole range. Half of the
# residuals are within about 5 % of 0; the tail of overestimated stones is slightly longer.

# %%
edges = [300, 700, 1_000, 2_000, 4_000, 7_000, 11_000, 19_000]
bins = np.digitize(truth, edges[1:-1])
names = [f"{low:,}\n-{high:,}" for low, high in pairwise(edges)]
_, panels = plt.subplots(1, 2, figsize=(11, 3.6))
panels[0].bar(names, [np.mean(abs(predicted - truth)[bins == one]) for one in range(len(names))], color=BLUE)
panels[0].set(title="Mean absolute error in dollars, by price", xlabel="true price, dollars")
spread = np.array([np.percentile(off[bins == one], [5, 25, 50, 75, 95]) for one in range(len(names))])
place = np.arange(len(names))
panels[1].vlines(place, spread[:, 0], spread[:, 4], color=GREY, linewidth=2, label="9 of 10 stones")
panels[1].vlines(place, spread[:, 1], spread[:, 3], color=BLUE, linewidth=9, label="half of the stones")
panels[1].plot(place, spread[:, 2], "o", color="white", markersize=4)
panels[1].axhline(0, color="black", linewidth=0.8)
panels[1].set_xticks(place, names)
panels[1].set(title="Error in per cent, by price", xlabel="true price, dollars")
panels[1].legend(loc="upper right", ncols=2)
panels[1].set_ylim(-30, 35)
plt.show()

# %% [markdown]
# The error in dollars grows with the price; the relative error is about constant, which is the purpose of the loss
# function. The most expensive stones are underestimated: the data ends at 18,823 dollars, and trees do not predict far
# beyond their training data.

# %% [markdown]
# ## Feature importance
#
# Each field of the held-out requests is shuffled among stones three times. The fall of R² shows how much the model
# relies on it. Thin lines are one standard deviation of the shuffles.

# %%
found = figures.importance(model, held_out, truth, repeats=3, seed=settings.seed)
figures.bars(found, title="Loss of R² when a field is shuffled", xlabel="fall of R²")

# %% [markdown]
# Weight and the lengths x, y and z are strongly correlated, so they share the importance of size, and none of them
# alone shows how much size matters. Clarity and colour follow. Cut, depth and table hardly change a price.

# %% [markdown]
# ## A few requests
#
# The price by weight, for a good and a plain stone, with the average lengths in the data for each weight.

# %%
_, axes = plt.subplots(figsize=(8, 3.6))
carats = np.linspace(0.25, 2.5, 120)
lengths = 6.45 * np.cbrt(carats)
for colour, clarity, color in ((GREEN, "IF", "D"), (BLUE, "VS2", "G"), (ORANGE, "SI2", "J")):
    asked = [
        Diamonds.Features(
            carat=c,
            cut="Ideal",
            color=color,
            clarity=clarity,
            depth=61.8,
            table=57.0,
            x=length,
            y=length,
            z=0.618 * length,
        )
        for c, length in zip(carats.tolist(), lengths.tolist(), strict=True)
    ]
    answers = [answer.price for answer in model.predict(asked)]
    axes.plot(carats, answers, color=colour, linewidth=2, label=f"clarity {clarity}, colour {color}")
axes.set(title="Predicted price, by weight", xlabel="carat", ylabel="US dollars")
axes.yaxis.set_major_formatter("{x:,.0f}")
axes.legend()
plt.show()

# %% [markdown]
# The line of the best stones is flat above 1.5 carat, where prices reach the end of the data at 18,823 dollars: do not
# use the model there. Small ups and downs are typical of trees, which do not know that heavier stones cost more.
#
# The same model predicts single requests, logs every row, and rejects invalid requests with a reason:

# %%
log = SqlitePredictionLog(settings.prediction_log)
asked = [example.features for example in sample[:2]] + [sample[2].features | {"cut": "Perfect"}]
results = model.predict_with_logging(asked, log, spool_dir=settings.home / "spool")
figures.table(
    ["request", "true price", "answer"],
    [
        (
            msgspec.json.encode(request).decode(),
            f"{example.label:,.0f}",
            f"{answer.prediction.price:,.0f}" if answer.error is None else answer.error.message,
        )
        for request, example, answer in zip(asked, sample, results.outcomes, strict=False)
    ],
)

# %% [markdown]
# ## Streaming through it
#
# On the stream a request is one JSON record in the topic `prediction-requests`, under a key of your choice:

# %%
request = events.PredictionRequested("diamond-1", "diamonds", msgspec.Raw(msgspec.json.encode(asked[0])))
print(events.encode(request).decode())

# %% [markdown]
# With a running broker, these commands train the model, start a worker, send diamonds and count their outcomes. The
# second replay multiplies the weights by 1.5, which shows as drift.
#
# ```console
# $ inflight up
# $ inflight train diamonds
# $ inflight worker &
# $ inflight replay diamonds --rate 500 --limit 5000
# $ inflight replay diamonds --shift carat=1.5 --limit 5000
# $ inflight audit
# ```

# %%
log.close()
home.cleanup()
