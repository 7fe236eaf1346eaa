"""How a passenger becomes numbers."""

import msgspec
import numpy as np
import pytest

from inflight.settings import Settings
from machine_learning_engineering.training.records import SourceUnreadable
from machine_learning_engineering.training.sources import collect
from model.titanic.features import INPUTS, PassengerFeatures, build_inputs
from model.titanic.model import Titanic
from model.titanic.preprocessing import Encoder


def passenger(**changes) -> PassengerFeatures:
    return PassengerFeatures(**({"pclass": 3, "sex": "male", "sibsp": 1, "parch": 2, "fare": 7.25} | changes))


def test_everything_known():
    row = passenger(age=22.0, embarked="S", name="Braund, Mr. Owen Harris", cabin="C85", ticket="A/5 21171")
    [found] = build_inputs([row]).tolist()
    assert found == [3, 1, 22, 1, 2, 3, 7.25, 2, 0, 2, np.log1p(7.25 / 4), 0, 1, 3]
    assert len(found) == len(INPUTS) == len(Titanic.feature_names_in)


def test_what_is_missing_is_nan():
    missing = np.isnan(build_inputs([passenger()])[0]).nonzero()[0]
    assert [INPUTS[index] for index in missing] == ["age", "embarked", "title", "deck", "title_and_class"]


@pytest.mark.parametrize(("sibsp", "parch", "large"), [(0, 0, 0), (3, 0, 0), (1, 3, 1), (8, 2, 1)])
def test_a_large_family_has_four_relatives_or_more(sibsp, parch, large):
    assert build_inputs([passenger(sibsp=sibsp, parch=parch)])[0, INPUTS.index("large_family")] == large


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Braund, Mr. Owen Harris", 0),
        ("Cumings, Mrs. John Bradley (Florence Briggs Thayer)", 1),
        ("Aubart, Mme. Leontine Pauline", 1),
        ("Heikkinen, Miss. Laina", 2),
        ("Palsson, Master. Gosta Leonard", 3),
        ("Rothes, the Countess. of (Lucy Noel Martha Dyer-Edwards)", 4),
    ],
)
def test_titles_fall_into_groups(name, group):
    assert build_inputs([passenger(name=name)])[0, 8] == group


@pytest.mark.parametrize("name", ["", "no comma", "Comma, ", "Comma, without a stop"])
def test_a_name_without_a_title_counts_as_missing(name):
    assert np.isnan(build_inputs([passenger(name=name)])[0, 8])


@pytest.mark.parametrize(("cabin", "deck"), [("A6", 0), ("G", 6), ("T", None), ("", None), ("?", None)])
def test_the_deck_is_the_first_letter_of_the_cabin(cabin, deck):
    found = build_inputs([passenger(cabin=cabin)])[0, 9]
    assert np.isnan(found) if deck is None else found == deck


def test_no_passengers_make_no_lines():
    assert build_inputs([]).shape == (0, 14)


# --- the encoder of the linear model ---------------------------------------------------------------------------------


def numbers_with_gaps() -> np.ndarray:
    random = np.random.default_rng(1)
    matrix = np.column_stack([random.normal(size=(60, 2)), random.integers(0, 4, (60, 2))]).astype(float)
    matrix[random.random(matrix.shape) < 0.2] = np.nan
    return matrix


def test_the_encoder_gives_what_scikit_learn_gives():
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    matrix = numbers_with_gaps()
    theirs = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), [0, 1]),
        (
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value=-1.0),
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            ),
            [2, 3],
        ),
    )
    ours = Encoder([0, 1], [2, 3])
    assert np.allclose(ours.fit_transform(matrix), theirs.fit_transform(matrix))
    other = numbers_with_gaps()[::-1] + 1  # With categories that were not seen.
    assert np.allclose(ours.transform(other), theirs.transform(other))


def test_the_encoder_changes_nothing_and_takes_a_number_that_is_always_the_same():
    matrix = np.array([[5.0, 1.0], [5.0, 2.0]])
    before = matrix.copy()
    assert Encoder([0], [1]).fit_transform(matrix).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert (matrix == before).all()


# --- files in Kaggle's columns and in ours ---------------------------------------------------------------------------

KAGGLE = {
    "PassengerId": "1",
    "Survived": "1",
    "Pclass": "3",
    "Name": "Braund, Mr. Owen Harris",
    "Sex": "male",
    "Age": "",
    "SibSp": "1",
    "Parch": "0",
    "Ticket": "A/5 21171",
    "Fare": "7.25",
    "Cabin": "",
    "Embarked": "S",
}


def test_a_line_of_kaggles_file_is_an_example():
    example = Titanic.example_from_csv_row(KAGGLE)
    assert example.label is True
    row = Titanic().decode(msgspec.json.encode(example.features))
    assert (row.pclass, row.age, row.fare, row.embarked) == (3, None, 7.25, "S")


@pytest.mark.parametrize(("survived", "label"), [("1", True), ("0", False), ("true", True), ("False", False)])
def test_a_line_in_our_own_columns_is_one_too(survived, label):
    line = {"pclass": "3", "sex": "male", "sibsp": "1", "parch": "0", "fare": "7.25", "age": "", "survived": survived}
    example = Titanic.example_from_csv_row(line)
    assert example == ({"pclass": 3, "sex": "male", "sibsp": 1, "parch": 0, "fare": 7.25}, label, None)


@pytest.mark.parametrize(("column", "cell"), [("Age", "old"), ("Pclass", "first"), ("Survived", ""), ("Survived", "2")])
def test_a_cell_that_is_no_value_is_named_by_its_column(column, cell):
    with pytest.raises(ValueError, match=f"column {column}: "):
        Titanic.example_from_csv_row(KAGGLE | {column: cell})


def test_a_file_of_kaggles_may_lack_what_a_request_may_lack():
    line = {column: cell for column, cell in KAGGLE.items() if column not in ("PassengerId", "Age", "Cabin", "Ticket")}
    assert Titanic.example_from_csv_row(line).features["cabin"] is None


def test_a_file_without_the_label_is_told_which_column_is_missing(tmp_path):
    (tmp_path / "test.csv").write_text("Pclass,Sex\n1,male\n")
    settings = Settings(home=tmp_path, _env_file=None)
    with pytest.raises(SourceUnreadable, match=r"test.csv line 2: there is no column 'Survived'"):
        collect(Titanic, settings, [str(tmp_path / "test.csv")])
