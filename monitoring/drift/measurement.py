"""Closed windows as events."""

from datetime import datetime

from machine_learning_engineering.drift.report import drift, rates
from machine_learning_engineering.events.schemas import DriftDetected, DriftMeasured, FieldDrift
from monitoring.drift.windows import ClosedWindow


def measure(window: ClosedWindow, *, significance: float, min_psi: float) -> DriftMeasured:
    """Compare a window with its reference. Each field has its most significant test; drifted fields come first."""
    report = drift(window.reference, window.counts, significance=significance, min_psi=min_psi)
    fields: dict[str, FieldDrift] = {}
    for test in report.tests:
        if test.field in fields:
            continue
        side, _, name = test.field.partition(".")
        reference, counts = (getattr(profile, side)[name] for profile in (window.reference, window.counts))
        shares, expected = rates(reference, counts), rates(reference, reference)
        fields[test.field] = FieldDrift(
            field=test.field,
            kind="feature" if side == "features" else "prediction",
            statistic=test.statistic,
            psi=test.psi,
            p_value=test.p_value,
            p_adjusted=test.p_adjusted,
            drifted=test.drifted,
            missing_rate=shares.missing,
            unseen_rate=shares.unseen,
            out_of_range_rate=shares.out_of_range,
            reference_missing_rate=expected.missing,
            detail=test.detail,
            reference_unseen_rate=expected.unseen,
        )
    return DriftMeasured(
        model=window.version.model,
        model_version=window.version.version,
        window_id=window.window_id,
        window_start=window.start,
        window_end=window.end,
        closed_by=window.closed_by,
        rows=window.rows,
        significance=significance,
        min_psi=min_psi,
        fields=list(fields.values()),
    )


def drift_detected(measured: DriftMeasured, at: datetime) -> DriftDetected | None:
    """The event of a window with drift, holding the drifted fields; None for any other window."""
    fields = [field for field in measured.fields if field.drifted]
    if not fields:
        return None
    return DriftDetected(
        model=measured.model,
        model_version=measured.model_version,
        window_id=measured.window_id,
        detected_at=at,
        window_start=measured.window_start,
        window_end=measured.window_end,
        rows=measured.rows,
        significance=measured.significance,
        fields=fields,
    )
