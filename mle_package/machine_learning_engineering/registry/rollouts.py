"""Rollouts of a model in its registry; see `registry.model_record`."""

from machine_learning_engineering.registry.model_record import ModelRecord
from machine_learning_engineering.rollout.record import Rollouts

ROLLOUTS = ModelRecord(
    Rollouts,
    "rollouts",
    changed="the rollout of model `{name}` was changed by somebody else in the meantime; nothing was written: "
    "see inflight rollout show, then repeat it",
    unreadable="restore {file}, or remove it, which ends an open rollout and unbars all versions",
)
read, change, sign = ROLLOUTS.read, ROLLOUTS.change, ROLLOUTS.sign
