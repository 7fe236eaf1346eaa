"""How a review becomes sentences and terms, and stars a score and a class. Nothing is fitted here."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.validation import InvalidFeatures
from model.reviews import dataset
from model.reviews.dataset import RatedSentence, stars
from model.reviews.features import LABELS, ReviewFeatures, build_inputs, class_index, scaled, sentences_of
from model.reviews.model import Reviews
from model.reviews.text import MAX_SENTENCES, marked_terms, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It cost $3.50 at dpreview.com. Fine.", ["It cost $3.50 at dpreview.com.", "Fine."]),
        ("Mr. Smith vs. me, e.g. here. Yes.", ["Mr. Smith vs. me, e.g. here.", "Yes."]),
        ('He said "great!" Then it broke.', ['He said "great!"', "Then it broke."]),
        ("(It works.) Really", ["(It works.)", "Really"]),
        ("well... it works", ["well...", "it works"]),
        ("a title\nand a text\r\n\r\nof lines", ["a title", "and a text", "of lines"]),
        ("no stop at a line's end, Mr.\nSmith", ["no stop at a line's end, Mr.", "Smith"]),
        ("* * *\n ... \n-\n fine", ["fine"]),
        ("!", ["!"]),
        ("  ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, sentences):
    assert split_sentences(text) == sentences


@given(st.text(alphabet="ab1.!?\"') \n\u00e9\u597d", max_size=300))
def test_no_letter_is_lost_or_moved_by_splitting(text):
    sentences = split_sentences(text)
    assert [c for c in "".join(sentences) if c.isalnum()] == [c for c in text if c.isalnum()]
    assert all(sentence and sentence == sentence.strip() and sentence in text for sentence in sentences)
    assert len(sentences) <= MAX_SENTENCES


def test_what_follows_the_last_sentence_that_is_told_apart_belongs_to_it():
    sentences = split_sentences("Good. " * 500)
    assert len(sentences) == MAX_SENTENCES
    assert sentences[-1].count("Good.") == 500 - MAX_SENTENCES + 1


@pytest.mark.parametrize(
    ("sentence", "terms"),
    [
        ("I LOVE it!", "i love it !"),
        ("It isn't a very good camera at all", "it isn't a_not very_not good_not camera at all"),
        ("It isn\u2019t good", "it isn't good_not"),
        ("not good, really", "not good_not really"),
        ("no good but cheap", "no good_not but cheap"),
        ("dont buy", "dont buy_not"),
        ("4 of 5 stars (2004)", "of stars"),
        ("...", ""),
    ],
)
def test_words_after_a_negation_are_marked(sentence, terms):
    assert marked_terms(sentence) == terms


def test_a_title_is_the_first_sentence():
    assert sentences_of(ReviewFeatures("It works. I like it.", "Great")) == ["Great", "It works.", "I like it."]
    assert sentences_of(ReviewFeatures("It works.", "")) == sentences_of(ReviewFeatures("It works.")) == ["It works."]
    assert build_inputs([ReviewFeatures("It works.", "Great"), ReviewFeatures("!")]).tolist() == [
        ["great", "it works"],
        ["!"],
    ]
    assert build_inputs([]).shape == (0,)


@pytest.mark.parametrize(("rating", "expected"), [(-4, 1), (-2, 1), (-0.5, 2.5), (0, 3), (1.25, 4.25), (2, 5), (4, 5)])
def test_a_point_of_the_mean_rating_is_a_star(rating, expected):
    assert stars(rating) == expected


@pytest.mark.parametrize(("of_stars", "score"), [(1, 0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1)])
def test_stars_are_min_max_scaled(of_stars, score):
    assert scaled(of_stars) == score


@pytest.mark.parametrize(
    ("score", "label"),
    [
        (0.0, "negative"),
        (0.333, "negative"),
        (1 / 3, "neutral"),
        (2 / 3, "neutral"),
        (0.667, "positive"),
        (1.0, "positive"),
    ],
)
def test_classes_are_thirds(score, label):
    assert LABELS[class_index(score)] == label


def test_sentences_become_reviews_with_the_stars_of_their_mean(monkeypatch):
    rated = [RatedSentence("1", 1.0, "good."), RatedSentence("1", -0.5, "but slow."), RatedSentence("2", -3.0, "bad.")]
    monkeypatch.setattr(dataset, "sentences", lambda data_dir, dataset=None: iter(rated))
    first, second = dataset.examples()
    assert first == Example({"title": None, "text": "good. but slow."}, 3.25)
    assert second == Example({"title": None, "text": "bad."}, 1.0)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({}, "feature `text` is missing"),
        ({"text": ""}, "feature `text` "),
        ({"text": "a" * 20_001}, "feature `text` "),
        ({"text": "a", "title": "a" * 501}, "feature `title` "),
        ({"text": "a", "stars": 5}, "`stars`"),
    ],
)
def test_what_is_no_review_is_refused_by_name(request_, names):
    with pytest.raises(InvalidFeatures, match=names):
        Reviews().decode(msgspec.json.encode(request_))


def test_a_title_may_be_left_out_or_null():
    assert Reviews().decode(b'{"text":"a"}') == Reviews().decode(b'{"text":"a","title":null}') == ReviewFeatures("a")


def test_the_dataset_is_what_its_specification_says():
    rated = list(dataset.sentences())
    assert len(rated) == 3_708
    assert all(-4 <= sentence.rating <= 4 and sentence.text for sentence in rated)
    examples = list(Reviews.examples())
    assert len(examples) == 300
    counts = np.bincount([class_index(scaled(one.label)) for one in examples]).tolist()
    assert counts == [77, 77, 146]
    assert min(one.label for one in examples) == 1
    assert max(one.label for one in examples) == 5


def test_sentences_about_films_are_reviews_of_their_own():
    films = list(Reviews.shifted_examples())
    assert len(films) == 10_605
    assert all(1 <= one.label <= 5 for one in films)
    model = Reviews()
    assert all(model.decode(msgspec.json.encode(one.features)).text for one in films[:200])
