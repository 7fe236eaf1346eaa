"""Policies of models: what is read, and errors that name the line, the field and the fix."""
# ruff: noqa: E501

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.policies import (
    InvalidPolicies,
    load_policies,
    parse_policies,
    policies_file,
    read_policies,
)
from machine_learning_engineering.rollout.policy import ModelPolicy, RetrainingPolicy, RolloutPolicy
from machine_learning_engineering.rollout.schedule import newest_slot, next_slot
from machine_learning_engineering.settings import KernelSettings

GOOD = """# Policies
[models.diamonds.retraining]
schedule = "0 3 * * 1"
new_labels = 500
max_age = "30d"
cool_down = 60
deadline = "1.5h"
data = ["dataset"]

[models.diamonds.rollout]
ramp = [1, 10]
key = "customer.id"
bake = "2h"
max_psi = 1

[models.titanic]
"""


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "inflight.toml"
    path.write_text(GOOD)
    assert read_policies(path) == {
        "diamonds": ModelPolicy(
            RetrainingPolicy(
                schedule="0 3 * * 1",
                new_labels=500,
                max_age=30 * 86_400,
                cool_down=60,
                deadline=5_400,
                data=("dataset",),
            ),
            RolloutPolicy(ramp=(1, 10), key="customer.id", bake=7_200, max_psi=1),
        ),
        "titanic": ModelPolicy(),
    }
    assert parse_policies(b"") == {}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[models.diamonds.retraining]", "[model.diamonds.retraining]", "line 2: model: a file of policies has no table of this name: did you mean `models`?"),
        ("[models.diamonds.retraining]", "[models.diamonds.retrain]", "line 2: models.diamonds.retrain: a model has no table of this name: did you mean `retraining`?"),
        ("[models.diamonds.rollout]", "[models.Diamonds.rollout]", "line 10: models.Diamonds: is no name of a model"),
        ("[models.titanic]", "[models]\ntitanic = 3", "line 17: models.titanic: must be a table: write [models.titanic] and its fields below it"),
        ("new_labels", "new_lables", "line 4: models.diamonds.retraining.new_lables: there is no such field: did you mean `new_labels`?"),
        ("new_labels = 500", "new_labels = -1", "line 4: models.diamonds.retraining.new_labels: must be an integer of at least 0, not -1"),
        ("new_labels = 500", "new_labels = true", "must be an integer of at least 0, not true"),
        ('"30d"', '"30 days"', 'line 5: models.diamonds.retraining.max_age: must be a number of seconds, or a text such as "90s", "15m", "6h", "30d" or "2w", not "30 days"'),
        ('"30d"', '"9999999999w"', "line 5: models.diamonds.retraining.max_age: must be a number of seconds"),
        ('"30d"', "1e300", "line 5: models.diamonds.retraining.max_age: is more than a hundred years"),
        ('"30d"', "nan", "line 5: models.diamonds.retraining.max_age: must be a finite number"),
        ('"1.5h"', '"0s"', "line 7: models.diamonds.retraining.deadline: must be a number above 0, not 0.0"),
        ("0 3 * * 1", "0 25 * * 1", "line 3: models.diamonds.retraining.schedule: is no cron line (Bad hour): write minute, hour, day"),
        ("0 3 * * 1", "0 3 30 2 *", "line 3: models.diamonds.retraining.schedule: "),
        ("0 3 * * 1", "weekly", "line 3: models.diamonds.retraining.schedule: is no cron line (Wrong number of fields)"),
        ("0 3 * * 1", "* " * 200, "line 3: models.diamonds.retraining.schedule: has 400 characters"),
        ('["dataset"]', '[" "]', "line 8: models.diamonds.retraining.data: has an empty source"),
        ('["dataset"]', '"dataset"', 'line 8: models.diamonds.retraining.data: must be a list, each a text, not "dataset"'),
        ("[1, 10]", "[10, 1]", "line 11: models.diamonds.rollout.ramp: must grow from step to step"),
        ("[1, 10]", "[0, 1]", "line 11: models.diamonds.rollout.ramp: must be a list"),
        ("customer.id", "customer..id", "line 12: models.diamonds.rollout.key: 'customer..id' has an empty name"),
        ("max_psi = 1", "max_psi = inf", "line 14: models.diamonds.rollout.max_psi: must be a finite number"),
        ("max_psi = 1", "alpha = 1", "line 14: models.diamonds.rollout.alpha: must be a number above 0 and below 1, not 1"),
        ("# Policies", "\x00", "is not TOML"),
    ],
)  # fmt: skip
def test_line_field_and_fix(before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(InvalidPolicies) as refused:
        parse_policies(GOOD.replace(before, after, 1).encode(), "inflight.toml")
    assert str(refused.value).startswith("inflight.toml")
    assert said in str(refused.value)


def test_a_policy_that_nothing_triggers_is_refused() -> None:
    with pytest.raises(InvalidPolicies, match=r"line 1: models.m.retraining: nothing triggers it: set schedule"):
        parse_policies(b"[models.m.retraining]\ndrift = false\nquality = false\n")


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named one or that of the home; never one of the current folder, nor one that others may write."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (elsewhere / "inflight.toml").write_text(GOOD)
    monkeypatch.chdir(elsewhere)
    assert load_policies(KernelSettings(home=home)) == {}
    settings = KernelSettings(home=home, policies=elsewhere / "inflight.toml")
    (elsewhere / "inflight.toml").chmod(0o644)
    assert set(load_policies(settings)) == {"diamonds", "titanic"}
    (elsewhere / "inflight.toml").chmod(0o664)
    with pytest.raises(InvalidPolicies, match=r"others may write .* and so decide which version is served: chmod 600"):
        load_policies(settings)
    (elsewhere / "inflight.toml").unlink()
    with pytest.raises(InvalidPolicies, match="correct or unset INFLIGHT_POLICIES"):
        load_policies(settings)
    monkeypatch.setenv("INFLIGHT_POLICIES", "")
    settings = KernelSettings(home=home)
    assert settings.policies is None
    assert policies_file(settings) is None
    path = home / "inflight.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    assert policies_file(settings) == path
    assert set(load_policies(settings)) == {"diamonds", "titanic"}


_MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
_LINES = st.sampled_from(["0 3 * * 1", "*/7 * * * *", "*/10 * * * * *", "0 0 29 2 *", "0 0 L * *", "30 4 1,15 * 5"])


@given(_LINES, _MOMENTS)
def test_slots_around_a_moment(line: str, now: datetime) -> None:
    """The newest slot is not after now, the next is, and between them there is none."""
    newest, following = newest_slot(line, now), next_slot(line, now)
    assert newest <= now < following
    assert newest_slot(line, newest) == newest
    assert newest_slot(line, following - timedelta(microseconds=1)) == newest
    assert next_slot(line, newest) == following
