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
# # What a review thinks
#
# The data, the training, the quality of the model, the importance of its features, and requests on the stream. The
# notebook only calls the product's modules and draws. It works in a temporary folder and leaves nothing behind. The
# [model card](../docs/model_cards/reviews.md) states the purpose of the model and compares it
# with other labellings and with VADER.

# %%
import re
import tempfile
from collections import defaultdict
from itertools import groupby
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
from model.reviews import dataset
from model.reviews.features import LABELS, class_index, scaled, sentences_of
from model.reviews.model import Reviews
from notebooks import figures
from notebooks.figures import BLUE, GREEN, GREY, ORANGE, RED

figures.use_style()
home = tempfile.TemporaryDirectory(prefix="inflight-notebook-")
settings = load_settings().model_copy(update={"home": Path(home.name)})
COLOURS = (RED, GREY, BLUE)

# %% [markdown]
# ## The data
#
# 300 reviews of five products with 3,708 sentences, each rated by people from -4 to 4. The file has no stars: the label
# of a review, its stars, is computed from the mean rating of its sentences. The class is the third of the scale that
# contains the stars.

# %%
examples = list(Reviews.examples(settings.data_dir))
stars = np.array([example.label for example in examples])
classes = np.array([class_index(scaled(label)) for label in stars])
rated = [list(group) for _, group in groupby(dataset.sentences(settings.data_dir), key=lambda one: one.review)]
lengths = np.array([len(review) for review in rated])
figures.table(
    ["class", "stars", "reviews", "sentences"],
    [
        (name, span, (classes == place).sum(), lengths[classes == place].sum())
        for place, (name, span) in enumerate(zip(LABELS, ("1 to 2.3", "2.3 to 3.7", "3.7 to 5"), strict=True))
    ],
)

# %%
_, panels = plt.subplots(1, 2, figsize=(10, 3.3))
by_class = [stars[classes == place] for place in range(3)]
panels[0].hist(by_class, np.linspace(1, 5, 25), stacked=True, color=COLOURS, label=LABELS)
panels[0].set(title="Reviews by stars", xlabel="stars", ylabel="reviews")
panels[0].legend(loc="upper center")
panels[1].hist(lengths, np.arange(0, 65, 2), color=BLUE)
panels[1].axvline(np.median(lengths), color="black", linewidth=1)
panels[1].set(title=f"Reviews by length, median {np.median(lengths):.0f}", xlabel="sentences", ylabel="reviews")
plt.show()

# %% [markdown]
# Half of the reviews are positive, so accuracy says little. The metric is macro-F1, in which all classes count the
# same. Most reviews have around ten sentences, a few have more than fifty.

# %%
_, axes = plt.subplots(figsize=(8, 2.6))
own = np.array([class_index(scaled(dataset.stars(sentence.rating))) for review in rated for sentence in review])
inherited = np.repeat(classes, lengths)
left = np.zeros(3)
for place, (name, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
    share = np.array([100 * np.mean(own[inherited == review] == place) for review in range(3)])
    axes.barh(LABELS, share, left=left, color=colour, label=name)
    for row, (start, width) in enumerate(zip(left, share, strict=True)):
        axes.text(start + width / 2, row, f"{width:.0f} %", ha="center", va="center", color="white")
    left += share
axes.invert_yaxis()
axes.xaxis.set_major_formatter("{x:.0f} %")
axes.set(title="What sentences say themselves, by the class of their review", ylabel="class of the review")
axes.legend(title="own rating", loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# A sentence inherits the stars of its review, but often has another sentiment: many sentences only describe, in good
# and in bad reviews. This label noise is the price of cheap labels; it limits how well one sentence can predict the
# class of its review.

# %% [markdown]
# ## Training
#
# `inflight train reviews` calls `run_training`. It writes the three data layers, cross-validates each candidate (five
# folds of whole reviews, repeated four times, because the result on few rows depends on the folds), fits it, chooses
# one, measures it on a held-out fifth of the reviews, and saves it in the registry.

# %%
entry = run_training(Reviews, settings)
figures.table(
    ["candidate", *entry.models[0].cross_validation],
    [(one.candidate, *map(figures.interval, one.cross_validation.values())) for one in entry.models],
)

# %%
figures.candidates(
    entry,
    {
        "sentence_macro_f1": "Macro-F1 of sentences",
        "macro_f1": "Macro-F1 of reviews",
        "log_loss": "Log loss (smaller is better)",
    },
)

# %% [markdown]
# Blue is the chosen candidate, the simplest within one standard error of the best. With 234 training reviews the
# intervals are wide and overlap: neither candidate is demonstrably better.

# %%
print(entry.selection)
figures.table(
    ["candidate", "reviews per second, one by one", "in batches of 1,024"],
    [(one.candidate, f"{one.rows_per_second['1']:,}", f"{one.rows_per_second['1024']:,}") for one in entry.models],
)

# %% [markdown]
# ## Quality
#
# All figures below are measured on the held-out fifth. The model is opened from the registry with verified digests, as
# in a worker. The sentences of a review are also predicted one by one, each as a review.

# %%
model = Registry(settings.registry_dir).open("reviews", model_class=Reviews)
rows, labels = layers.rows_of(model, layers.read(Path(entry.layers["silver"].path))[1])
parts = layers.read(Path(entry.layers["gold"].path))[1]["part"].to_pylist()
held_out = [row for row, part in zip(rows, parts, strict=True) if part == layers.HELD_OUT]
true_stars = np.array([label for label, part in zip(labels, parts, strict=True) if part == layers.HELD_OUT])
truth = np.array([class_index(scaled(label)) for label in true_stars])
answers = model.predict(held_out)
sentences = [Reviews.Features(text=sentence) for row in held_out for sentence in sentences_of(row)]
sentence_truth = np.repeat(truth, [len(sentences_of(row)) for row in held_out])
sentence_answers = model.predict(sentences)
figures.table(
    ["metric", f"on {len(held_out)} held-out reviews"], [(k, figures.interval(v)) for k, v in entry.held_out.items()]
)

# %%
from sklearn.calibration import calibration_curve  # noqa: E402
from sklearn.metrics import confusion_matrix  # noqa: E402

_, panels = plt.subplots(1, 3, figsize=(13, 4))
for axes, true, given, title in (
    (panels[0], truth, answers, "Reviews"),
    (panels[1], sentence_truth, sentence_answers, "Sentences, class of their review"),
):
    counts = confusion_matrix(true, [LABELS.index(one.label) for one in given], labels=[0, 1, 2])
    share = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.3)
    for row, column in np.ndindex(3, 3):
        axes.text(column, row, f"{counts[row, column]}\n{100 * share[row, column]:.0f} %", ha="center", va="center")
    axes.set(title=title, xlabel="predicted", ylabel="true")
    axes.set_xticks(range(3), LABELS)
    axes.set_yticks(range(3), LABELS, rotation=90, va="center")
panels[2].plot([0, 1], [0, 1], "--", color=GREY, label="perfect")
for true, given, colour, name in (
    (truth, answers, GREEN, "reviews"),
    (sentence_truth, sentence_answers, ORANGE, "sentences"),
):
    hits = np.eye(3)[true].ravel()
    probable = np.array([msgspec.structs.astuple(one.probabilities) for one in given]).ravel()
    observed, expected = calibration_curve(hits, probable, n_bins=6, strategy="quantile")
    panels[2].plot(expected, observed, "o-", color=colour, label=name)
panels[2].set(title="Calibration, all classes", xlabel="predicted probability", ylabel="share that was so", ylim=(0, 1))
panels[2].legend(loc="upper left")
plt.show()

# %% [markdown]
# Nearly all negative and three of four positive reviews are recognized, and none is confused with its opposite. Neutral
# reviews have two borders and the most errors, mostly positive predictions. Single sentences are harder. Probabilities
# follow the dashed line within the precision of 30 predictions per point (reviews); those of sentences deviate by up to
# 0.07 in the middle.

# %%
_, axes = plt.subplots(figsize=(5.2, 5.2))
predicted = np.array([1 + 4 * answer.score for answer in answers])
axes.plot([1, 5], [1, 5], "--", color=GREY)
for place, (name, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
    axes.plot(
        true_stars[truth == place], predicted[truth == place], "o", color=colour, alpha=0.8, label=f"truly {name}"
    )
for border in (1 + 4 / 3, 1 + 8 / 3):
    axes.axhline(border, color="black", linewidth=0.6)
axes.set(title="Predicted against true stars", xlabel="true", ylabel="predicted", xlim=(0.9, 5.1), ylim=(0.9, 5.1))
axes.legend(loc="upper left", fontsize=9)
plt.show()

# %% [markdown]
# The order is mostly right, but the error is often more than half a star. Above the upper line the prediction is
# "positive", below the lower one "negative".

# %% [markdown]
# ## Feature importance
#
# The text is one field, so shuffling it would say nothing. Instead each word is removed from the held-out sentences
# that contain it, and the change of their scores is measured. The plot shows the words with the greatest mean change
# among those in at least ten sentences; thin lines are one standard error.

# %%
having = defaultdict(list)
for place, sentence in enumerate(sentences):
    for word in set(re.findall(r"[a-z']{2,}", sentence.text.lower())):
        having[word].append(place)
having = {word: places for word, places in having.items() if len(places) >= 10}


def without(word: str, text: str) -> Reviews.Features:
    # A sentence of that word alone leaves a stop.
    return Reviews.Features(text=re.sub(rf"(?<![\w']){re.escape(word)}(?![\w'])", "", text, flags=re.I).strip() or ".")


asked = [without(word, sentences[place].text) for word, places in having.items() for place in places]
scores = iter([answer.score for answer in model.predict(asked)])
changes = {
    word: np.array([sentence_answers[place].score - next(scores) for place in places])
    for word, places in having.items()
}
found = {word: (float(one.mean()), float(one.std(ddof=1) / np.sqrt(len(one)))) for word, one in changes.items()}
order = sorted(found, key=lambda word: found[word][0])
figures.bars(
    {word: found[word] for word in [*order[:10], *order[-10:]]},
    title="What a word adds to the score of its sentence",
    xlabel="change of the score, which goes from 0 to 1",
)

# %% [markdown]
# As expected, praise is at the top, negation and problems are at the bottom. But with 300 reviews of five products the
# model also learns which products are liked: "camera" and "phone" raise the score, "unit" and "amazon" lower it. Such
# words do not generalize to other products.

# %% [markdown]
# ## A few requests
#
# The held-out review of six to nine sentences whose `sentence_scores` differ most:

# %%
few = [place for place, answer in enumerate(answers) if 6 <= len(answer.sentence_scores) <= 9]
shown = max(few, key=lambda place: np.std(answers[place].sentence_scores))
texts = [text if len(text) < 75 else text[:72] + "..." for text in sentences_of(held_out[shown])]
points = np.array(answers[shown].sentence_scores)
_, axes = plt.subplots(figsize=(10, 0.36 * len(texts) + 1.1))
axes.barh(range(len(texts)), points - 0.5, left=0.5, color=[COLOURS[class_index(point)] for point in points])
axes.set_yticks(range(len(texts)), texts, fontsize=9)
axes.invert_yaxis()
axes.axvline(0.5, color="black", linewidth=0.8)
answer = answers[shown]
axes.set(xlim=(0, 1), xlabel="score, from 0 (negative) to 1 (positive)")
axes.set_title(
    f"Whole review: {answer.score:.2f}, {answer.label}; true: {scaled(true_stars[shown]):.2f}, {LABELS[truth[shown]]}"
)
plt.show()

# %% [markdown]
# The score of a review is pooled from its sentences; longer ones have a greater weight. The same model predicts single
# requests, logs every row, and rejects invalid requests with a reason:

# %%
log = SqlitePredictionLog(settings.prediction_log)
asked = [
    {"title": "Great little camera", "text": "The pictures are excellent and it is easy to use. I love it!"},
    {"text": "It stopped working after a week. Support never answered."},
    {"text": "It has two buttons."},
    {"text": "Das Bild ist furchtbar."},
    {"text": ""},
]
results = model.predict_with_logging(asked, log, spool_dir=settings.home / "spool")
figures.table(
    ["request", "score", "label", "negative", "neutral", "positive"],
    [
        (
            msgspec.json.encode(request).decode(),
            *(
                (answer.error.message, "", "", "", "")
                if answer.prediction is None
                else (
                    answer.prediction.score,
                    answer.prediction.label,
                    *msgspec.structs.astuple(answer.prediction.probabilities),
                )
            ),
        )
        for request, answer in zip(asked, results.outcomes, strict=True)
    ],
)

# %% [markdown]
# The fourth text is German and calls the picture terrible. Unknown words carry no information, and the prediction does
# not show this: send English only.
#
# ## Streaming through it
#
# On the stream a request is one JSON record in the topic `prediction-requests`, under a key of your choice:

# %%
request = events.PredictionRequested("review-1", "reviews", msgspec.Raw(msgspec.json.encode(asked[0])))
print(events.encode(request).decode())

# %% [markdown]
# With a running broker, these commands train the model, start a worker, send all reviews and count their outcomes:
#
# ```console
# $ inflight up
# $ inflight train reviews
# $ inflight worker &
# $ inflight replay reviews --rate 50
# $ inflight audit
# ```

# %%
log.close()
home.cleanup()
