"""Events about a model's live predictions: drift and quality, window by window."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from machine_learning_engineering.core.frames import make_frame
from machine_learning_engineering.events.fields import ModelName, Timestamp


class FieldDrift(Struct, frozen=True):
    """Difference of one field of a window from the reference, by its test with the smallest p-value.

    `field` is, for example, ``features.carat`` or ``predictions.price``. `p_adjusted` is corrected for the number of
    tests of the window. Rates are shares of rows; those of the reference are of the rows that it was made from, where a
    text may have no known word either (`reference_unseen_rate`; unset in old events). `detail` names the word that
    differs most, if the test compares words.
    """

    field: str
    kind: Literal["feature", "prediction"]
    statistic: str
    psi: float
    p_value: float
    p_adjusted: float
    drifted: bool
    missing_rate: float
    unseen_rate: float
    out_of_range_rate: float
    reference_missing_rate: float
    detail: str = ""
    reference_unseen_rate: float | UnsetType = UNSET


class DriftMeasured(Struct, frozen=True, tag_field="type", tag="drift.measured.v1"):
    """Comparison of a window of requests with the reference profile of the model version, field by field.

    If the window follows the reference, the probability that any of its `fields` is reported as drifted is at most
    `significance`; a drifted field also has a population stability index of at least `min_psi`. `window_id` is the same
    whenever the same window is measured again.
    """

    model: ModelName
    model_version: str
    window_id: str
    window_start: Timestamp
    window_end: Timestamp
    closed_by: Literal["count", "time"]
    rows: int
    significance: float
    min_psi: float
    fields: list[FieldDrift]


class DriftDetected(Struct, frozen=True, tag_field="type", tag="drift.detected.v1"):
    """A window has drifted; `fields` holds the drifted fields with their evidence."""

    model: ModelName
    model_version: str
    window_id: str
    detected_at: Timestamp
    window_start: Timestamp
    window_end: Timestamp
    rows: int
    significance: float
    fields: list[FieldDrift]


class LiveMetric(Struct, frozen=True):
    """A metric of live predictions with its confidence interval; `reference` is the test metric from training."""

    name: str
    value: float
    lower: float
    upper: float
    reference: float | UnsetType = UNSET


class QualityMeasured(Struct, frozen=True, tag_field="type", tag="quality.measured.v1"):
    """Quality of a model version, from the labelled requests that were accepted in a window."""

    model: ModelName
    model_version: str
    measured_at: Timestamp
    window_start: Timestamp
    window_end: Timestamp
    rows: int
    confidence: float
    metrics: list[LiveMetric]

    def to_pandas(self) -> Any:
        """The metrics as a DataFrame of pandas, one row each; the other fields are in its ``attrs``.

        Raises:
            ImportError: pandas is not installed.
        """
        plain = [msgspec.structs.asdict(metric) for metric in self.metrics]
        found = {name: [one[name] for one in plain] for name in LiveMetric.__struct_fields__}
        found["reference"] = [None if one is UNSET else one for one in found["reference"]]
        frame = make_frame(found, {name: "string" if name == "name" else "float64" for name in found})
        frame.attrs |= {name: getattr(self, name) for name in self.__struct_fields__ if name != "metrics"}
        return frame
