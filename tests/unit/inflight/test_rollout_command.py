"""`inflight rollout`: each verb, as text and as JSON, and errors that name the fix."""

import pytest

import inflight.adapters.rollouts
from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.rolling import change_rollouts
from machine_learning_engineering.rollout.machine import advance
from machine_learning_engineering.rollout.verdict import Check, Verdict
from tests.support.line_model import run, run_json


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The last action, and the number of new steps, of each announcement."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(
        inflight.adapters.rollouts,
        "announce",
        lambda settings, rollout, after, flips: found.append((rollout.steps[-1].action, len(rollout.steps) - after)),
    )
    return found


def judged(registry: Registry, status) -> None:
    verdict = Verdict(status, f"{status} [red]it[/red] is", (Check("errors", status, "2 of 900", 0.02, 0.01),))
    change_rollouts(registry, "line", lambda found: advance(found, verdict, found.current.stage_at))


def test_a_rollout_by_hand_from_start_to_end(line_registry, announced):
    assert run("rollout", "start", "line", "--reason", "new data") == "line: v3 in place of v2: shadow\n"
    assert run_json("rollout", "pause", "line")["paused"] is True
    assert run_json("rollout", "resume", "line")["paused"] is False
    assert run("rollout", "promote", "line", "--reason", "fine") == "line: v3 in place of v2: bake\n"
    assert line_registry.champions() == {"line": "v3"}
    assert run_json("rollout", "abort", "line", "--reason", "not fine")["outcome"] == "aborted"
    assert line_registry.champions() == {"line": "v2"}
    assert announced == [(action, 1) for action in ("started", "paused", "resumed", "promoted", "aborted")]
    steps = line_registry.rollouts("line").current.steps
    assert [step.reason for step in steps] == ["new data", "", "", "fine", "not fine"]
    assert len({step.by for step in steps}) == 1


def test_show_has_stage_checks_steps_and_bars_in_eighty_columns(line_registry):
    assert "inflight rollout start" in run("rollout", "show")
    run("rollout", "start", "line:v3", "--shadow-share", "0", "--bake", "60", "--no-worse")
    text = run("rollout", "show", "line")
    assert "line: v3 in place of v2: canary at 1 % for 0 s of 7 d" in text
    assert "no broker" in text.replace("\n", " ")
    judged(line_registry, "fail")
    text = run("rollout", "show", "line")
    assert max(map(len, text.splitlines())) <= 80
    # What a reason holds is no markup.
    assert "rolled back" in text
    assert "[red]it[/red]" in text
    assert "barred: v3" in text
    (report,) = run_json("rollout", "show", "--record")
    assert (report["rollout"]["outcome"], set(report["barred"])) == ("rolled_back", {"v3"})
    policy = report["rollout"]["policy"]
    assert (policy["shadow_share"], policy["bake"], policy["require_better"]) == (0, 60, False)


def test_a_barred_version_is_refused_everywhere_until_it_is_unbarred(line_registry):
    run("rollout", "start", "line")
    judged(line_registry, "fail")
    for command in (("rollout", "start", "line:v3"), ("models", "promote", "line:v3")):
        assert "inflight rollout unbar line v3" in run(*command, code=1 if command[0] == "rollout" else 2)
    assert run("rollout", "unbar", "line", "v3", "--reason", "the labels were wrong")
    assert "the labels were wrong" in run("rollout", "show", "line")
    assert run_json("models", "promote", "line:v3")["version"] == "v3"
    assert "is not barred" in run("rollout", "unbar", "line", "v3", "--reason", "again", code=1)


def test_commands_that_do_not_fit_name_the_one_that_does(line_registry):
    assert "no open rollout" in run("rollout", "abort", "line", "--reason", "x", code=1)
    assert "no open rollout" in run("rollout", "pause", "line", code=1)
    run("rollout", "start", "line")
    assert "inflight rollout abort line" in run("rollout", "start", "line:v1", code=1)
    assert "at most 1,000" in run("rollout", "pause", "line", "--reason", "x" * 1_001, code=2)
    run("rollout", "abort", "line", "--reason", "x")
    assert "champion of model `line` already" in run("rollout", "start", "line:v2", code=1)


def test_a_promotion_by_hand_ends_the_rollout_and_models_show_tells(line_registry):
    run("rollout", "start", "line")
    assert "v3 in place of v2: shadow" in run("models", "show", "line:v3")
    run("models", "promote", "line:v1", "--reason", "back to the first")
    assert run_json("rollout", "show", "line", "--record")[0]["rollout"]["outcome"] == "aborted"
    assert "aborted" in run("models", "show", "line:v3")


def test_a_policy_comes_from_the_file(line_registry, line_settings: Settings):
    line_settings.home.mkdir(exist_ok=True)
    path = line_settings.home / "inflight.toml"
    path.write_text('[models.line.rollout]\nramp = [10, 20]\nbake = "2h"\n')
    path.chmod(0o600)
    policy = run_json("rollout", "start", "line")["policy"]
    assert (policy["ramp"], policy["bake"]) == ([10, 20], 7_200)
    run("rollout", "abort", "line", "--reason", "x")
    path.write_text("[models.line.rollout]\nramps = [10]\n")
    assert "ramps" in run("rollout", "start", "line", code=2)
