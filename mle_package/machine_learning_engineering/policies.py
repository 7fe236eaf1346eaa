"""Policies of models, read from `inflight.toml`. Errors name the file, the line, the field and the fix.

A policy decides what a model is trained on and which version is served. So the file is never one of the current folder,
and nobody else may write it.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from machine_learning_engineering.core.env_file import UntrustedEnvFile, check_trusted
from machine_learning_engineering.core.timestamps import parse_duration
from machine_learning_engineering.declaration import tables
from machine_learning_engineering.declaration.paths import parse_path
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.rollout.policy import ModelPolicy, RetrainingPolicy, RolloutPolicy
from machine_learning_engineering.rollout.schedule import check_schedule
from machine_learning_engineering.settings import KernelSettings

POLICIES_FILE = "inflight.toml"
"""Name of the file in the home."""
VARIABLE = "INFLIGHT_POLICIES"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_DURATIONS = {
    "retraining": {"max_age", "cool_down", "window", "deadline"},
    "rollout": {"label_delay", "min_step", "max_shadow", "max_canary", "bake"},
}
_MAX_SECONDS = 100 * 366 * 86_400.0


class InvalidPolicies(ValueError):
    """A file of policies can't be used. The message names the file, the line, the field and the fix."""


def load_policies(settings: KernelSettings) -> dict[str, ModelPolicy]:
    """Read the policies that ``INFLIGHT_POLICIES`` names, otherwise those in the home; without a file there are none.

    Raises:
        InvalidPolicies: The file is missing though it is named, can't be used, or may have been written by others.
    """
    path = policies_file(settings)
    if path is None:
        return {}
    try:
        check_trusted(path, VARIABLE, "decide which version is served")
    except UntrustedEnvFile as error:
        raise InvalidPolicies(str(error)) from None
    return read_policies(path)


def policies_file(settings: KernelSettings) -> Path | None:
    """The file of policies that holds, or None: never one of the current folder."""
    if settings.policies is not None:
        return settings.policies
    path = settings.home / POLICIES_FILE
    return path if path.exists() else None


def read_policies(path: Path) -> dict[str, ModelPolicy]:
    """Read a file of policies: the policy by model.

    Raises:
        InvalidPolicies: It is missing or unreadable, is not TOML, does not fit the schema, or contradicts itself.
    """
    try:
        with path.open("rb") as file:
            content = file.read(tables.MAX_BYTES + 1)
    except OSError as error:
        raise InvalidPolicies(f"{path} can't be read ({error.strerror}): correct or unset {VARIABLE}") from error
    return parse_policies(content, str(path))


def parse_policies(content: bytes, name: str = POLICIES_FILE) -> dict[str, ModelPolicy]:
    """Read policies from a TOML text.

    Args:
        name: Of the file, for messages.

    Raises:
        InvalidPolicies: See `read_policies`.
    """
    try:
        found = tables.parse(content, name, "a file of policies")
    except ValueError as error:
        raise InvalidPolicies(str(error)) from error
    try:
        return _policies(found)
    except DeclarationProblem as problem:
        raise InvalidPolicies(tables.located(problem, content, name)) from problem


def _policies(found: Mapping[str, Any]) -> dict[str, ModelPolicy]:
    for name in found:
        if name != "models":
            hint = tables.nearest(name, ("models",)) or ": it has [models.NAME.retraining] and [models.NAME.rollout]"
            raise DeclarationProblem((name,), f"a file of policies has no table of this name{hint}")
    models = _table(found.get("models", {}), ("models",))
    return {name: _policy(name, _table(table, ("models", name))) for name, table in models.items()}


def _policy(model: str, table: Mapping[str, Any]) -> ModelPolicy:
    path = ("models", model)
    if not _NAME.fullmatch(model):
        raise DeclarationProblem(("models", model[:40]), "is no name of a model: use a-z, 0-9, - and _")
    kinds: dict[str, type[Struct]] = {"retraining": RetrainingPolicy, "rollout": RolloutPolicy}
    for name in table:
        if name not in kinds:
            hint = tables.nearest(name, kinds) or f": there are {', '.join(kinds)}"
            raise DeclarationProblem((*path, name), f"a model has no table of this name{hint}")
    parts: dict[str, Any] = {
        name: tables.section(_seconds(_table(one, (*path, name)), name, (*path, name)), kinds[name], (*path, name))
        for name, one in table.items()
    }
    policy = ModelPolicy(**parts)
    if policy.retraining is not None:
        _check_retraining(policy.retraining, (*path, "retraining"))
    _check_rollout(policy.rollout, (*path, "rollout"))
    return policy


def _table(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DeclarationProblem(path, f"must be a table: write [{'.'.join(path)}] and its fields below it")
    return value


def _seconds(table: dict[str, Any], name: str, path: tuple[str, ...]) -> dict[str, Any]:
    """The table with its durations in seconds, and only with finite numbers."""
    found = dict(table)
    for field, value in table.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DeclarationProblem((*path, field), "must be a finite number")
        if field not in _DURATIONS[name]:
            continue
        if isinstance(value, str):
            try:
                value = found[field] = parse_duration(value)
            except ValueError:
                wanted = 'must be a number of seconds, or a text such as "90s", "15m", "6h", "30d" or "2w"'
                raise DeclarationProblem((*path, field), f"{wanted}, not {tables.told(value)}") from None
        if isinstance(value, int | float) and value > _MAX_SECONDS:
            raise DeclarationProblem((*path, field), "is more than a hundred years")
    return found


def _check_retraining(policy: RetrainingPolicy, path: tuple[str, ...]) -> None:
    if policy.schedule:
        try:
            check_schedule(policy.schedule)
        except ValueError as error:
            fix = "write minute, hour, day, month and weekday in UTC, such as 0 3 * * 1"
            raise DeclarationProblem((*path, "schedule"), f"{error}: {fix}") from error
    elif not (policy.drift or policy.quality or policy.new_labels or policy.max_age):
        raise DeclarationProblem(path, "nothing triggers it: set schedule, drift, quality, new_labels or max_age")
    for source in policy.data:
        if not source.strip():
            raise DeclarationProblem((*path, "data"), "has an empty source: write dataset, a file, a folder or a URL")


def _check_rollout(policy: RolloutPolicy, path: tuple[str, ...]) -> None:
    if any(later <= earlier for earlier, later in zip(policy.ramp, policy.ramp[1:], strict=False)):
        raise DeclarationProblem((*path, "ramp"), "must grow from step to step, as [1, 5, 25, 50] does")
    if policy.key:
        try:
            parse_path(policy.key, ".".join((*path, "key")))
        except ValueError as error:
            raise DeclarationProblem((*path, "key"), str(error).partition(": ")[2]) from error
