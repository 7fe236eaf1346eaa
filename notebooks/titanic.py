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
# # Who survived the Titanic
#
# What is in the data, how the model is trained, how good it is, what it goes by, and how to stream requests through it.
# Everything is done by the product's own modules; this page only calls them and draws. It works in a temporary folder
# and leaves nothing behind. The [model card](../docs/model_cards/titanic.md) says what the model is for.

# %%
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import msgspec
import numpy as np

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import load_settings
from machine_learning_engineering.training import layers
from machine_learning_engineering.training.pipeline import run_training
from model.titanic.model import Titanic
from notebooks import figures
from notebooks.figures import BLUE, GREEN, GREY, ORANGE

figures.use_style()
home = tempfile.TemporaryDirectory(prefix="inflight-notebook-")
settings = load_settings().model_copy(update={"home": Path(home.name)})

# %% [markdown]
# ## The data
#
# 891 passengers in Kaggle's columns, of whom 342 (38 %) survived. One line here is one field of a request.

# %%
examples = list(Titanic.examples(settings.data_dir))
data = {name: [example.features[name] for example in examples] for name in examples[0].features}
survived = np.array([example.label for example in examples])


def describe(values: list) -> str:
    known = [value for value in values if value is not None]
    if isinstance(known[0], str):
        kinds = sorted(set(known))
        return ", ".join(kinds) if len(kinds) < 5 else f"{len(kinds)} texts, such as {known[0]}"
    return f"{min(known):g} to {max(known):g}, median {np.median(known):g}"


figures.table(
    ["field", "missing", "values"],
    [(name, f"{100 * values.count(None) / len(values):.1f} %", describe(values)) for name, values in data.items()],
)

# %% [markdown]
# Three fields have gaps. Whether a gap itself says something can be seen by comparing those for whom the value is known
# with those for whom it is not.

# %%
_, panels = plt.subplots(1, 2, figsize=(9.5, 3), sharey=True)
for axes, field in zip(panels, ("age", "cabin"), strict=True):
    known = np.array([value is not None for value in data[field]])
    groups = [known, ~known]
    hits = [survived[group].sum() for group in groups]
    figures.proportions(axes, ["known", "missing"], hits, [group.sum() for group in groups], [BLUE, GREY])
    axes.set_title(f"Survived, with the {field} known or missing")
plt.show()

# %% [markdown]
# Two of three passengers with a known cabin survived, and less than one of three without: cabins are known mostly for
# the first class. That a value is missing is information, so the model is told of it and no row is thrown away. (In
# brackets: passengers. The thin lines are 95 % confidence intervals.)

# %%
_, axes = plt.subplots(figsize=(8, 3.2))
sex, pclass = np.array(data["sex"]), np.array(data["pclass"])
groups = [(s, c, (sex == s) & (pclass == c)) for s in ("female", "male") for c in (1, 2, 3)]
figures.proportions(
    axes,
    [f"{s}\nclass {c}" for s, c, _ in groups],
    [survived[group].sum() for *_, group in groups],
    [group.sum() for *_, group in groups],
    [GREEN] * 3 + [ORANGE] * 3,
)
axes.set_title("Survived, by sex and class")
plt.show()

# %% [markdown]
# Sex and class decide most: nearly all women of the first two classes survived, half of those of the third, and few
# men. Men of the second class fared no better than those of the third, so the two fields do not simply add up.

# %%
age = np.array([np.nan if value is None else value for value in data["age"]], dtype=float)
_, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
edges = [0, 6, 12, 18, 30, 45, 60, 81]
for axes, s in zip(panels, ("female", "male"), strict=True):
    groups = [(sex == s) & (age >= low) & (age < high) for low, high in pairwise(edges)]
    names = [f"{low}-{high - 1}" for low, high in pairwise(edges)]
    hits = [survived[group].sum() for group in groups]
    figures.proportions(axes, names, hits, [group.sum() for group in groups], GREEN if s == "female" else ORANGE)
    axes.set_title(f"Survived, by age: {s}")
plt.show()

# %% [markdown]
# Small boys had far better chances than men; for girls and women age hardly matters (the dip from 6 to 11 rests on 11
# girls). The title in a name ("Master" is a boy) tells boys from men where the age is missing, which is why the model
# reads names.

# %%
relatives = np.add(data["sibsp"], data["parch"])
_, panels = plt.subplots(1, 2, figsize=(9, 3.2))
groups = [relatives == count for count in range(7)] + [relatives >= 7]
names = [*map(str, range(7)), "7+"]
hits = [survived[group].sum() for group in groups]
figures.proportions(panels[0], names, hits, [group.sum() for group in groups])
panels[0].set_title("Survived, by relatives aboard")
fare = np.array(data["fare"])
edges = [0, 8, 14, 30, 80, 600]
groups = [(fare >= low) & (fare < high) for low, high in pairwise(edges)]
names = ["below 8", "8-14", "14-30", "30-80", "80 or more"]
hits = [survived[group].sum() for group in groups]
figures.proportions(panels[1], names, hits, [group.sum() for group in groups])
panels[1].set_title("Survived, by fare in pounds")
plt.show()

# %% [markdown]
# Small families did best, and those with four relatives or more were rarely saved together. The more was paid, the
# better the chances: from a quarter below 8 pounds to three quarters above 80. A fare is that of a whole ticket, so the
# model divides it by the number of those who shared it.

# %% [markdown]
# ## Training
#
# `run_training` is what `inflight train titanic` runs: it writes the three layers of data, cross-validates each
# candidate (five folds, four times over, since so few rows give another answer with other folds), fits it, chooses,
# measures the chosen one on a fifth of the passengers that no candidate has seen, and puts it into the registry.

# %%
entry = run_training(Titanic, settings)
figures.table(
    ["candidate", *entry.models[0].cross_validation],
    [(one.candidate, *map(figures.interval, one.cross_validation.values())) for one in entry.models],
)

# %%
titles = {"roc_auc": "ROC AUC", "accuracy": "Accuracy", "log_loss": "Log loss (smaller is better)"}
figures.candidates(entry, titles)

# %% [markdown]
# The rule takes the simplest candidate whose `roc_auc` is within one standard error of the best (blue). The intervals
# overlap: on 708 rows nobody can say that one of the three is truly better. The linear model is also the fastest and
# the easiest to explain.

# %%
print(entry.selection)
figures.table(
    ["candidate", "rows per second, one by one", "in batches of 1,024"],
    [(one.candidate, f"{one.rows_per_second['1']:,}", f"{one.rows_per_second['1024']:,}") for one in entry.models],
)

# %% [markdown]
# ## How good it is
#
# From here on everything is measured on the held-out fifth, with the model as a worker opens it: from the registry,
# with its digests checked.

# %%
model = Registry(settings.registry_dir).open("titanic", model_class=Titanic)
rows, labels = layers.rows_of(model, layers.read(Path(entry.layers["silver"].path))[1])
parts = layers.read(Path(entry.layers["gold"].path))[1]["part"].to_pylist()
held_out = [row for row, part in zip(rows, parts, strict=True) if part == layers.HELD_OUT]
truth = np.array([label for label, part in zip(labels, parts, strict=True) if part == layers.HELD_OUT])
probability = np.array([answer.probability for answer in model.predict(held_out)])
figures.table(
    ["metric", f"on {len(held_out)} held-out rows"], [(k, figures.interval(v)) for k, v in entry.held_out.items()]
)

# %%
from sklearn.calibration import calibration_curve  # noqa: E402
from sklearn.metrics import confusion_matrix, roc_curve  # noqa: E402

_, panels = plt.subplots(1, 3, figsize=(12, 3.8))
false, true, _ = roc_curve(truth, probability)
panels[0].plot(false, true, color=BLUE, linewidth=2, label=f"model, area {entry.metrics['roc_auc']:.3f}")
panels[0].plot([0, 1], [0, 1], "--", color=GREY, label="guessing, area 0.5")
panels[0].set(title="ROC curve", xlabel="of those who died, called survivors", ylabel="of the survivors, found")
panels[0].legend(loc="lower right")

observed, expected = calibration_curve(truth, probability, n_bins=6, strategy="quantile")
error = 1.96 * np.sqrt(observed * (1 - observed) / (len(truth) / len(observed)))
panels[1].plot([0, 1], [0, 1], "--", color=GREY, label="perfect")
error = [np.minimum(error, observed), np.minimum(error, 1 - observed)]
panels[1].errorbar(expected, observed, error, fmt="o-", color=BLUE, capsize=3, label="model")
panels[1].set(title="Calibration", xlabel="predicted probability", ylabel="share that survived", ylim=(-0.05, 1.1))
panels[1].legend(loc="upper left")

counts = confusion_matrix(truth, probability >= 0.5)
panels[2].imshow(counts, cmap="Blues", vmax=1.3 * counts.max())
for row, column in np.ndindex(2, 2):
    panels[2].text(column, row, counts[row, column], ha="center", va="center", fontsize=16)
panels[2].set(title="Confusion at 0.5", xlabel="predicted", ylabel="true")
panels[2].set_xticks([0, 1], ["died", "survived"])
panels[2].set_yticks([0, 1], ["died", "survived"], rotation=90, va="center")
plt.show()

# %% [markdown]
# The curve is far above guessing. The probabilities are about right, within what 30 passengers a point can tell (thin
# lines: 95 % intervals): of those who were given 12 %, none survived. Who is wronged by it?

# %%
answer = probability >= 0.5
groups = [
    (s, c, np.array([r.sex == s and r.pclass == c for r in held_out])) for s in ("female", "male") for c in (1, 2, 3)
]
figures.table(
    ["group", "passengers", "survived", "survivors given up", "called survivors, but died"],
    [
        (f"{s}, class {c}", g.sum(), (g & truth).sum(), (g & truth & ~answer).sum(), (g & ~truth & answer).sum())
        for s, c, g in groups
    ],
)

# %% [markdown]
# Errors are not spread evenly: three of four men who survived are given up, and nearly every woman of the first two
# classes is taken to be saved. The model repeats what was done on that night; see the limits in the model card.

# %% [markdown]
# ## What it goes by
#
# Each field of the held-out requests is shuffled among passengers, 20 times; how much does the metric fall? What falls
# much is relied upon. Thin lines are one standard deviation of the shuffles; a bar is grey where it is shorter than
# two.

# %%
found = figures.importance(model, held_out, truth, repeats=20, seed=settings.seed)
figures.bars(found, title="Loss of ROC AUC when a field is shuffled", xlabel="fall of the area under the curve")

# %% [markdown]
# The model lives on the name, whose title tells sex, age and marriage in one word, and on sex. Shuffling one field
# leaves what others say of the same thing: the class counts for much more than its own bar, since the fare and the
# cabin tell it too. The ticket's number is accepted and not used.

# %% [markdown]
# ## A few requests
#
# What would the model say of somebody who travelled alone, at each age? A boy is a Master until 12, a girl a Miss until
# 17.

# %%
_, axes = plt.subplots(figsize=(8, 3.4))
ages = np.arange(1, 75)
for colour, s in ((GREEN, "female"), (ORANGE, "male")):
    for style, c in (("-", 1), ("--", 2), (":", 3)):
        titles = [("Master" if y < 13 else "Mr") if s == "male" else ("Miss" if y < 18 else "Mrs") for y in ages]
        asked = [
            Titanic.Features(pclass=c, sex=s, sibsp=0, parch=0, fare=20.0, age=float(years), name=f"Doe, {title}. Jo")
            for years, title in zip(ages, titles, strict=True)
        ]
        answers = [100 * answer.probability for answer in model.predict(asked)]
        axes.plot(ages, answers, style, color=colour, linewidth=2, label=f"{s}, class {c}")
axes.set(title="Probability of survival, by age", xlabel="age", ylim=(0, 100))
axes.yaxis.set_major_formatter("{x:.0f} %")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The step in the lines of males is a boy becoming a Mr. Among females the third class counts for more than the age.
#
# The same model answers requests one by one, keeps every row in a log, and refuses what it does not understand with a
# reason:

# %%
log = SqlitePredictionLog(settings.prediction_log)
asked = [
    {"pclass": 1, "sex": "female", "age": 29, "sibsp": 0, "parch": 0, "fare": 80.0, "name": "Doe, Mrs. Jane"},
    {"pclass": 3, "sex": "male", "age": 4, "sibsp": 1, "parch": 1, "fare": 16.7, "name": "Doe, Master. John"},
    {"pclass": 3, "sex": "male", "sibsp": 0, "parch": 0, "fare": 7.9, "name": "Doe, Mr. James"},
    {"pclass": 4, "sex": "male", "sibsp": 0, "parch": 0, "fare": 7.9},
]
results = model.predict_with_logging(asked, log, spool_dir=settings.home / "spool")
figures.table(
    ["request", "answer"],
    [
        (msgspec.json.encode(request).decode(), answer.prediction if answer.error is None else answer.error.message)
        for request, answer in zip(asked, results.outcomes, strict=True)
    ],
)

# %% [markdown]
# ## Streaming through it
#
# On the stream a request is one JSON record on the topic `prediction-requests`, its key the request's id:

# %%
request = events.PredictionRequested("passenger-1", "titanic", msgspec.Raw(msgspec.json.encode(asked[0])))
print(events.encode(request).decode())

# %% [markdown]
# With a broker up, these commands train the model, start a worker, send all 891 passengers through it and count what
# became of them:
#
# ```console
# $ inflight up
# $ inflight train titanic
# $ inflight worker &
# $ inflight replay titanic --rate 200
# $ inflight audit
# ```

# %%
log.close()
home.cleanup()
