"""What a path shows of records and documents. Nothing here does input or output."""

from typing import Any

from msgspec import UnsetType

from machine_learning_engineering.events.schemas import RolloutArm


def arm_details(arm: RolloutArm | UnsetType) -> dict[str, Any]:
    """Which arm of a rollout answered; nothing if none was open."""
    if isinstance(arm, UnsetType):
        return {}
    return {"arm": arm.arm, "percent": arm.percent, "rollout": arm.rollout_id, "salt": arm.salt}


def document_details(source: dict[str, Any], values: bool) -> dict[str, Any]:
    """What is shown of the source of a document of the log."""
    fields = source["inflight"]
    names: tuple[str, ...] = ("outcome", "labelled", "label_observed_at", "redacted")
    if values:
        names += ("features", "features_text", "prediction", "prediction_text", "label")
    details = {"model": fields["model"]["name"], "model_version": fields["model"].get("version")}
    details |= {"arm": fields.get("rollout", {}).get("arm")} | {name: fields[name] for name in names if name in fields}
    return {name: value for name, value in details.items() if value is not None}
