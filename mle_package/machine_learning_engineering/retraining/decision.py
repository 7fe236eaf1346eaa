"""Decision of a retraining, its evidence, and its file."""

import logging
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.drift.report import DriftReport
from machine_learning_engineering.evaluation.permutation import PermutationTest

logger = logging.getLogger(__name__)

Outcome = Literal["kept", "retraining_due", "challenger", "promoted", "rejected", "failed"]


class Evidence(Struct, frozen=True):
    """Evidence from the log: the champion's rows between `first` and `last`, labelled predictions, and skipped rows.

    `metric` is None with too few labels; `drift` is None with too few rows. `label_sources` counts the labelled
    predictions by the source that reported the label, see `prediction_log.store.PredictionRecord`.
    """

    rows: int = 0
    labelled: int = 0
    skipped: dict[str, int] = {}
    labels_unmatched: int = 0
    first: datetime | None = None
    last: datetime | None = None
    recorded_metric: float | None = None
    metric: PermutationTest | None = None
    drift: DriftReport | None = None
    label_sources: dict[str, int] = {}


class Decision(Struct, frozen=True, kw_only=True):
    """A decision and its evidence.

    `outcome` is "kept" (no reason to retrain), "retraining_due" (a reason, but a dry run or too few rows to train on),
    "rejected" (the promotion rule is against the challenger), "challenger" (it is for it, and a person has to promote
    it), "promoted" (likewise, and promotion was asked for), or "failed" (see `error`; the champion stays). `gate` and
    `held_out_gate` are the two tests of the rule (`training.promotion.Verdict`). `trained_on` counts the rows for fit
    and gate by source, after the limit `max_source_share`. `record` is the path of the JSON file with this decision.
    """

    decision_id: str
    model: str
    decided_at: datetime
    significance: float
    min_labelled: int
    min_rows: int
    outcome: Outcome = "kept"
    reason: str = ""
    champion: str | None = None
    evidence: Evidence = Evidence()
    challenger: str | None = None
    gate: PermutationTest | None = None
    held_out_gate: PermutationTest | None = None
    max_source_share: float = 1.0
    trained_on: dict[str, int] = {}
    error: str = ""
    seconds: float = 0.0
    record: str = ""


def write(decision: Decision, folder: Path) -> Decision:
    """Write a decision to a JSON file and return it with its path; if that fails, with an error.

    Args:
        folder: Folder of the model's decisions; created if it is missing.
    """
    path = folder / f"{decision.decided_at:%Y%m%dT%H%M%S}-{decision.decision_id[:8]}.json"
    kept = msgspec.structs.replace(decision, record=str(path))
    try:
        files.make_folder(folder)
        files.replace(path, msgspec.json.format(msgspec.json.encode(kept), indent=2))
    except OSError as error:
        logger.warning("the decision about %s was not recorded: %s", decision.model, error)
        note = f"the decision could not be recorded: {error}"
        return msgspec.structs.replace(decision, error="; ".join(filter(None, (decision.error, note))))
    return kept
