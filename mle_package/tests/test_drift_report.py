"""Drift: the stated rate of false alarms on clean windows, and an alarm that names the field on disturbed ones."""

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.drift.binning import count_into, reference_profile
from machine_learning_engineering.drift.profile import NumericHistogram
from machine_learning_engineering.drift.report import drift, rates
from machine_learning_engineering.drift.statistics import chi_square, holm, hypergeometric_test, psi


class Row(msgspec.Struct, frozen=True):
    number: float
    count: int
    kind: str
    maybe: float | None
    text: str


class Model:
    Features = Row


WORDS = [f"word{n}" for n in range(100)]
FREQUENCY = 1 / np.arange(1, 101)


def rows(count, random):
    kinds = random.choice(list("abcdef"), p=[0.5, 0.25, 0.15, 0.08, 0.015, 0.005], size=count)
    texts = random.choice(WORDS, p=FREQUENCY / FREQUENCY.sum(), size=(count, 6))
    return [
        {
            "number": float(number),
            "count": int(poisson),
            "kind": str(kind),
            "maybe": None if missing else float(number),
            "text": " ".join(words[: 2 + poisson]),
        }
        for number, poisson, kind, missing, words in zip(
            random.normal(size=count),
            random.poisson(1, size=count),
            kinds,
            random.random(count) < 0.05,
            texts,
            strict=True,
        )
    ]


@pytest.fixture(scope="module")
def reference():
    return reference_profile(Model, rows(3_000, np.random.default_rng(1)), [])


def disturbed(reference, change, count=400, **options):
    window = rows(count, np.random.default_rng(99))
    for row in window:
        change(row)
    return drift(reference, count_into(reference, window), **options)


def test_clean_windows_give_no_more_false_alarms_than_stated():
    random = np.random.default_rng(2)
    alarms = 0
    for run in range(120):
        if run % 6 == 0:
            # New references too: the rate is over both samples.
            reference = reference_profile(Model, rows(1_000, random), [])
        alarms += bool(drift(reference, count_into(reference, rows(300, random)), significance=0.1, min_psi=0).drifted)
    assert alarms <= 23  # 12 are expected at most; more than 23 would be a chance of 1 in 1,000.


def test_fifty_clean_windows_at_the_default_level_give_no_alarm(reference):
    random = np.random.default_rng(3)
    found = [drift(reference, count_into(reference, rows(500, random))).drifted for _ in range(50)]
    assert [fields for fields in found if fields] == []


@pytest.mark.parametrize(
    ("field", "statistic", "change"),
    [
        ("number", "distribution", lambda row: row.update(number=row["number"] * 2.5)),
        ("number", "missing", lambda row: row.update(number=None if row["number"] > 1 else row["number"])),
        ("number", "zeros", lambda row: row.update(number=0.0 if row["number"] > 1 else row["number"])),
        ("count", "distribution", lambda row: row.update(count=row["count"] + 1)),
        ("kind", "distribution", lambda row: row.update(kind={"a": "b"}.get(row["kind"], row["kind"]))),
        ("kind", "unseen", lambda row: row.update(kind={"d": "new"}.get(row["kind"], row["kind"]))),
        ("maybe", "missing", lambda row: row.update(maybe=None if row["number"] > 0 else row["maybe"])),
        ("text", "length", lambda row: row.update(text=row["text"] * 3)),
        ("text", "known_words", lambda row: row.update(text=row["text"] + " never seen words at all")),
        ("text", "words", lambda row: row.update(text=row["text"].replace("word0", "word3"))),
    ],
)
def test_a_disturbed_field_is_named_by_the_test_that_found_it(reference, field, statistic, change):
    report = disturbed(reference, change)
    assert report.drifted == [f"features.{field}"]
    assert (f"features.{field}", statistic) in [(test.field, test.statistic) for test in report.tests if test.drifted]


def test_the_most_suspicious_test_comes_first_and_words_are_named(reference):
    report = disturbed(reference, lambda row: row.update(text=row["text"].replace("word0", "word3")))
    assert report.tests[0].drifted
    assert {"word0", "word3"} & {test.detail for test in report.tests}
    assert [test.p_adjusted for test in report.tests if not test.drifted] == sorted(
        test.p_adjusted for test in report.tests if not test.drifted
    )


def test_a_significant_but_small_difference_is_no_drift(reference):
    def change(row):
        row.update(number=row["number"] + 0.15)

    many = disturbed(reference, change, count=5_000)
    (test,) = [test for test in many.tests if (test.field, test.statistic) == ("features.number", "distribution")]
    assert test.p_adjusted < 1e-4
    assert (test.psi < 0.1, test.drifted) == (True, False)
    assert disturbed(reference, change, count=5_000, min_psi=0.01).drifted == ["features.number"]


def test_a_number_that_was_always_the_same_drifts_when_it_changes():
    reference = reference_profile(Model, [{"number": 5.0}] * 500, [])
    assert drift(reference, count_into(reference, [{"number": 5.0}] * 100)).drifted == []
    assert drift(reference, count_into(reference, [{"number": 5.1}] * 100)).drifted == ["features.number"]


def test_an_empty_window_and_an_empty_reference_are_no_drift(reference):
    assert drift(reference, count_into(reference, [])).tests == []
    empty = reference_profile(Model, [], [])
    assert drift(empty, count_into(empty, rows(10, np.random.default_rng(1)))).drifted == []


def test_psi_is_zero_for_equal_shares_and_grows_with_the_difference():
    assert psi([100, 200, 300], [100, 200, 300]) == 0
    assert psi([500, 500], [500, 500]) < psi([500, 500], [600, 400]) < psi([500, 500], [900, 100])
    assert psi([900, 100], [0, 1000]) == pytest.approx(psi([0, 1000], [900, 100]))
    # By hand: 0.2 * ln(0.7/0.5) + -0.2 * ln(0.3/0.5)
    assert psi([50_000, 50_000], [70_000, 30_000]) == pytest.approx(
        0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5), rel=1e-3
    )


def test_chi_square_agrees_with_scipy_where_no_bin_is_rare():
    from scipy.stats import chi2_contingency

    one, other = [120, 300, 80, 55], [30, 60, 35, 20]
    assert chi_square(one, other) == pytest.approx(chi2_contingency([one, other], correction=False).pvalue)


@pytest.mark.parametrize(
    ("one", "other"),
    [([], []), ([0, 0], [1, 2]), ([5, 5], [0, 0]), ([1, 0], [0, 1]), ([7], [9]), ([2, 2, 2], [1, 0, 1])],
)
def test_chi_square_of_next_to_nothing_is_no_evidence(one, other):
    assert chi_square(one, other) == 1.0


def test_rare_bins_are_put_together_but_count():
    # Four bins of which each alone would be too rare.
    assert chi_square([970, 8, 8, 7, 7], [440, 15, 15, 15, 15]) < 1e-6


@pytest.mark.parametrize(
    ("rows", "window_rows"),
    [(20_000, 1_000), (2_000, 200), (700, 700), (500, 100_000), (1_000_000, 100_000), (50, 40), (3, 5)],
)
def test_p_values_of_shares_are_exact_whatever_their_size(rows, window_rows):
    from scipy.stats import hypergeom

    random = np.random.default_rng(11)
    share = np.concatenate([random.random(300) ** 4, [0.0, 1.0]])
    one = random.binomial(rows, share)
    other = random.binomial(window_rows, np.clip(share * random.normal(1, 0.3, len(share)), 0, 1))
    rarer = other * rows < one * window_rows
    fixed = rows + window_rows, one + other, window_rows
    exact = np.minimum(1, 2 * np.where(rarer, hypergeom.cdf(other, *fixed), hypergeom.sf(other - 1, *fixed)))
    found = hypergeometric_test(one, rows, other, window_rows)
    assert (found >= exact * (1 - 1e-6)).all()
    # What is left out of the sum is bounded, so large values of large windows are larger.
    suspicious = exact < 0.001
    assert found[suspicious] == pytest.approx(exact[suspicious], rel=0.05, abs=1e-300)
    assert suspicious.any() or rows < 50


def test_words_alone_give_no_more_false_alarms_than_stated():
    # 200 words of a share of 0.6 %: about six of each in a window, where a normal approximation is wrong by far.
    random, share, windows = np.random.default_rng(12), np.full(200, 0.006), 2_000
    alarms = 0
    for _ in range(windows):
        p_values = hypergeometric_test(random.binomial(10_000, share), 10_000, random.binomial(1_000, share), 1_000)
        alarms += p_values.min() * len(share) < 0.01
    assert alarms <= 35  # 20 are expected at most; more than 35 would be a chance of 1 in 1,000.


def test_shares_agree_with_other_tests():
    from scipy.stats import chi2_contingency, fisher_exact

    (frequent,) = hypergeometric_test(np.array([30_000]), 100_000, np.array([15_300]), 50_000)
    assert frequent == pytest.approx(
        chi2_contingency([[30_000, 70_000], [15_300, 34_700]], correction=False).pvalue, rel=0.1
    )
    (rare,) = hypergeometric_test(np.array([0]), 5_000, np.array([6]), 300)
    # Twice the one side that there is.
    assert rare == pytest.approx(2 * fisher_exact([[0, 5_000], [6, 294]]).pvalue)
    (usual,) = hypergeometric_test(np.array([5_000]), 5_000, np.array([294]), 300)
    assert usual == pytest.approx(rare)
    assert hypergeometric_test(np.array([0, 3]), 0, np.array([1, 2]), 5).tolist() == [1, 1]
    assert hypergeometric_test(np.array([0, 100]), 100, np.array([0, 50]), 50).tolist() == [1, 1]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_a_few_numbers_out_of_range_are_found_though_no_share_changed_much(reference):
    def change(row):
        # One row in twenty: too few for the other bins to show it.
        row.update(number=500.0 if abs(row["number"]) < 0.06 else row["number"])

    report = disturbed(reference, change)
    (test,) = [test for test in report.tests if test.statistic == "out_of_range" and test.field == "features.number"]
    assert (test.drifted, test.detail) == (True, "above")
    assert report.drifted == ["features.number"]


def test_numbers_out_of_range_by_chance_are_no_alarm():
    random = np.random.default_rng(5)
    p_values = []
    for _ in range(300):
        reference = reference_profile(Model, [{"number": float(n)} for n in random.normal(size=200)], [])
        window = count_into(reference, [{"number": float(n)} for n in random.normal(size=200)])
        tests = drift(reference, window, min_psi=0).tests
        p_values += [test.p_value for test in tests if test.statistic == "out_of_range"]
    # Of 300 windows, most of which have some such number. 5 % would be 15; 27 are a chance of 1 in 500.
    assert 150 < len(p_values) < 300
    assert sum(p <= 0.05 for p in p_values) < 27


@pytest.mark.parametrize(
    ("known", "found", "share"),
    [
        ([1.0, 2.0, 3.0], [0.5, 4.0, 1.0, 3.0], 0.5),
        ([1.0, 2.0, 3.0], [0.0, 2.0], 0.5),
        ([-3.0, -1.0], [0.0, -2.0, -4.0, -1.0], 0.5),
        ([0.0, 2.0], [0.0, 1.0, 3.0, -1.0], 0.75),  # zeros are counted apart, and 1 is below all others
        ([-2.0, 2.0], [0.0, 1.0, 3.0, -2.0], 0.25),
        ([0.0, 0.0], [0.0, 5.0], 0.5),
        ([None, None], [5.0, None], 0.0),
        ([float("inf"), 1.0], [float("inf"), 1.0], 0.0),
    ],
)
def test_the_share_out_of_range(known, found, share):
    reference = reference_profile(Model, [{"number": value} for value in known], [])
    field = reference.features["number"]
    if isinstance(field, NumericHistogram):
        window = count_into(reference, [{"number": value} for value in found])
        assert rates(field, window.features["number"]).out_of_range == share
        assert rates(field, field).out_of_range == 0
    else:
        assert known == [None, None]


def test_the_rates_of_missing_and_unseen_values(reference):
    window = count_into(
        reference,
        [
            {"number": 1.0, "kind": "a", "text": "word0 word1"},
            {"number": None, "kind": "new", "text": "nothing known"},
            {"number": 0.5, "kind": None, "text": None},
            {"number": 0.5, "kind": "b", "text": "word0 new"},
        ],
    )
    found = {name: rates(reference.features[name], field) for name, field in window.features.items()}
    assert (found["number"].missing, found["kind"].missing, found["text"].missing) == (0.25, 0.25, 0.25)
    assert (found["number"].unseen, found["kind"].unseen, found["text"].unseen) == (0, 0.25, 0.25)
    assert rates(reference.features["kind"], count_into(reference, []).features["kind"]).missing == 0
