"""How a fitted model scores reviews, and that its scorer computes what scikit-learn does."""

import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.testing.check_model import prepare, run_check
from machine_learning_engineering.testing.checks import CHECKS
from model.reviews.estimator import ReviewRegressor
from model.reviews.features import LABELS, ReviewFeatures, build_inputs, class_index, scaled, sentences_of
from model.reviews.model import Reviews
from model.reviews.scorer import SentenceScorer
from model.reviews.text import _kind, marked_terms, split_sentences

GOOD = [
    "i love it",
    "great picture and great sound",
    "excellent value, very happy",
    "works great",
    "highly recommended",
]
BAD = ["it broke after a day", "terrible picture", "do not buy it", "it does not work", "a waste of money"]
SO_SO = ["it is ok", "it has a remote", "average sound", "it does what it says", "nothing special"]


def corpus() -> list[Example]:
    """45 reviews: the bad have 1 or 1.5 stars, the others 3 or 3.3, the good 5 or 4.6."""
    found = []
    for number in range(15):
        for parts, rating in ((BAD, 1.0), (SO_SO, 3.0), (GOOD, 5.0)):
            text = ". ".join([parts[number % 5], parts[(number + 1) % 5], parts[(number + 3) % 5]]) + "."
            odd = {1.0: 1.5, 3.0: 3.3, 5.0: 4.6}[rating]
            found.append(Example({"title": None, "text": text}, odd if number % 2 else rating))
    return found


@pytest.fixture(scope="module")
def case():
    """A model fitted to the small corpus."""
    return prepare(Reviews, examples=corpus())


@pytest.fixture(scope="module")
def model(case) -> Reviews:
    return case.model


def review(text: str, title: str | None = None) -> ReviewFeatures:
    return ReviewFeatures(text=text, title=title)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_model_passes_the_contract_checks(case, check):
    run_check(check, case)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=80), st.none() | st.text(max_size=20)), max_size=5))
@settings(max_examples=50, deadline=None)
def test_whatever_the_text_an_answer_is_within_its_range(model, texts):
    rows = [review(text, title) for text, title in texts]
    answers = model.predict(rows)
    assert len(answers) == len(rows)
    for row, answer in zip(rows, answers, strict=True):
        assert 0 < answer.score < 1
        assert answer.label == LABELS[class_index(answer.score)]
        probabilities = msgspec.structs.astuple(answer.probabilities)
        assert min(probabilities) >= 0
        assert sum(probabilities) == pytest.approx(1)
        assert len(answer.sentence_scores) == len(sentences_of(row))
        assert all(0 < score < 1 for score in answer.sentence_scores)


def test_a_review_of_one_sentence_scores_as_its_sentence(model):
    (answer,) = model.predict([review("it broke after a day.")])
    assert answer.sentence_scores == (pytest.approx(answer.score),)


def test_the_score_of_a_review_lies_between_those_of_its_sentences(model):
    (answer,) = model.predict([review("great picture and great sound. but it broke after a day.", "terrible picture")])
    assert min(answer.sentence_scores) < answer.score < max(answer.sentence_scores)


def test_agreeing_sentences_make_it_surer(model):
    one, many = model.predict([review("terrible picture."), review("terrible picture. " * 6)])
    assert many.score <= one.score + 1e-9
    assert many.probabilities.negative > one.probabilities.negative


def test_unknown_words_say_nothing(model):
    nothing, unknown, mixed, known = model.predict(
        [review("..."), review("\u597d\u597d\u597d"), review("works great. \u597d\u597d"), review("works great.")]
    )
    assert nothing.sentence_scores == ()
    assert unknown.sentence_scores == (pytest.approx(nothing.score),)
    assert mixed.score == pytest.approx(known.score)


def test_it_learns_what_the_corpus_says(model):
    answers = model.predict(
        [review("a waste of money. do not buy it."), review("i love it. works great.", "excellent")]
    )
    assert [answer.label for answer in answers] == ["negative", "positive"]


def test_the_seed_decides_and_files_hold_no_other_types(model, tmp_path):
    examples = corpus()
    texts, labels = build_inputs([ReviewFeatures(**one.features) for one in examples]), [one.label for one in examples]
    twice = [ReviewRegressor(seed=3).fit(texts, labels).predict(texts).tolist() for _ in range(2)]
    assert twice[0] == twice[1]
    registry = Registry(tmp_path)
    version = registry.save(model, metrics={}, training_data_sha256="", seed=3)
    opened = registry.open("reviews", version, model_class=Reviews)
    assert opened.predict([review("i love it")]) == model.predict([review("i love it")])


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_all_three_classes_are_needed_to_train(missing):
    kept = [one for one in corpus() if class_index(scaled(one.label)) != missing]
    with pytest.raises(ValueError, match="do not have all three classes"):
        Reviews().fit([ReviewFeatures(**one.features) for one in kept], [one.label for one in kept], seed=1)


def test_metrics_are_those_of_the_classes_and_stars(model):
    rows = [review("it broke after a day"), review("it is ok"), review("i love it")]
    answers = model.predict(rows)
    right = [1 + 4 * answer.score for answer in answers]
    found = model.evaluate(answers, right)
    assert found["mae"] == pytest.approx(0, abs=1e-9)
    assert found["accuracy"] == 1
    wrong = model.evaluate(answers, [5.0 if answer.label == "negative" else 1.0 for answer in answers])
    assert wrong["macro_f1"] == wrong["sentence_macro_f1"] == wrong["accuracy"] == 0
    assert wrong["log_loss"] > found["log_loss"]
    assert wrong["brier"] > found["brier"]
    assert all(np.isfinite(list(model.evaluate(model.predict([review("...")]), [1.0]).values())))


KNOWN = [
    "great",
    "picture",
    "not",
    "broke",
    "sound",
    "works",
    "good_not",
    "after",
    "a",
    "day",
    "unheard",
    "\u00fc",
    "!",
]


def _as_scikit_learn(regressor: ReviewRegressor, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    bags = sp.hstack([vectorizer.transform(sentences) for vectorizer in regressor.vectorizers_]).tocsr()
    return regressor.linear_.decision_function(bags), np.diff(bags.indptr)


@settings(deadline=None)
@given(sentences=st.lists(st.lists(st.sampled_from(KNOWN), max_size=12).map(" ".join), min_size=1, max_size=5))
def test_the_scorer_computes_what_scikit_learn_does(model, sentences):
    """Words, pairs and pieces; repeated, unknown, and none at all."""
    logits, known = model.estimator._scorer().score(sentences)
    expected, terms = _as_scikit_learn(model.estimator, sentences)
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
    assert known.tolist() == terms.tolist()


def test_the_scorer_computes_what_scikit_learn_does_whatever_the_text(model):
    """All sentences of the corpus at once, in more than one chunk, and each alone with the same bits."""
    sentences = [marked_terms(sentence) for one in corpus() * 2 for sentence in split_sentences(one.features["text"])]
    sentences += ["great " * 100, "x" * 5_000]
    scorer = model.estimator._scorer()
    logits, known = scorer.score(sentences)
    expected, terms = _as_scikit_learn(model.estimator, sentences)
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
    assert known.tolist() == terms.tolist()
    assert [scorer.score([sentence])[0][0] for sentence in sentences] == logits.tolist()


def test_what_is_remembered_of_words_is_bounded_in_bytes(model, monkeypatch):
    """Words of thousands of letters beyond the BMP, of 4 bytes each: few words, much memory."""
    monkeypatch.setattr("model.reviews.scorer._MAX_CACHED_LETTERS", 50_000)
    regressor = model.estimator
    scorer = SentenceScorer(regressor.vectorizers_, regressor.linear_.coef_[0], float(regressor.linear_.intercept_[0]))
    sentences = [marked_terms("not " + chr(0x20000 + number) * 10_000) for number in range(40)]
    for sentence in sentences:
        scorer.score([sentence])
        assert sum(map(len, scorer._words._table.row_of)) <= 70_000
    kinds = _kind.cache_info().currsize
    marked_terms("not " + chr(0x30000) * 10_000)
    assert _kind.cache_info().currsize == kinds


def test_the_terms_of_remembered_words_are_bounded_too(model, monkeypatch):
    monkeypatch.setattr("model.reviews.scorer._MAX_CACHED_TERMS", 1_000)
    regressor = model.estimator
    scorer = SentenceScorer(regressor.vectorizers_, regressor.linear_.coef_[0], float(regressor.linear_.intercept_[0]))
    for number in range(40):
        scorer.score(["great" * (100 + number)])
        assert len(scorer._words._table.row_of) <= 10


def test_threads_that_meet_new_words_at_once_score_alike(model, monkeypatch):
    """While the words are forgotten again and again."""
    monkeypatch.setattr("model.reviews.scorer._MAX_CACHED", 20)
    regressor = model.estimator
    sentences = [f"great picture {word}{number % 97} broke" for number in range(400) for word in ("after", "sound")]
    expected, _ = _as_scikit_learn(regressor, sentences)
    scorer = SentenceScorer(regressor.vectorizers_, regressor.linear_.coef_[0], float(regressor.linear_.intercept_[0]))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda start: scorer.score(sentences[start : start + 7])[0], range(0, 800, 7)))
    finally:
        sys.setswitchinterval(before)
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-9, atol=1e-9)


def test_what_the_scorer_remembers_is_not_kept_with_the_model(model):
    """Files stay as small, and as equal, as the fit alone makes them."""
    model.predict([review("It broke after a day. Great picture!")])
    assert "_made_scorer" not in model.estimator.__getstate__()
