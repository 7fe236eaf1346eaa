"""Features and prediction of the wine model, and the inputs of its estimator.

A laboratory measures all thirteen values at once, so none may be missing.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Cultivar = Literal["barolo", "grignolino", "barbera"]
CULTIVARS: tuple[Cultivar, ...] = ("barolo", "grignolino", "barbera")


class WineFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One chemical analysis. The limits are slightly beyond the range of wine."""

    alcohol: Annotated[float, Meta(ge=0, le=25, description="Percent by volume.")]
    malic_acid: Annotated[float, Meta(ge=0, le=20, description="Grams a litre.")]
    ash: Annotated[float, Meta(ge=0, le=10)]
    alcalinity_of_ash: Annotated[float, Meta(ge=0, le=100)]
    magnesium: Annotated[float, Meta(ge=0, le=1_000, description="Milligrams a litre.")]
    total_phenols: Annotated[float, Meta(ge=0, le=20)]
    flavanoids: Annotated[float, Meta(ge=0, le=20)]
    nonflavanoid_phenols: Annotated[float, Meta(ge=0, le=10)]
    proanthocyanins: Annotated[float, Meta(ge=0, le=20)]
    color_intensity: Annotated[float, Meta(ge=0, le=50)]
    hue: Annotated[float, Meta(ge=0, le=5)]
    od280_od315: Annotated[float, Meta(ge=0, le=10, description="Absorbance at 280 nm over that at 315 nm, diluted.")]
    proline: Annotated[float, Meta(ge=0, le=5_000, description="Milligrams a litre.")]


class WinePrediction(msgspec.Struct, frozen=True):
    """The most probable grape and the probability of each; they add up to 1."""

    cultivar: Cultivar
    probabilities: dict[str, float]


FIELDS = WineFeatures.__struct_fields__


def build_inputs(rows: Sequence[WineFeatures]) -> NDArray[np.float64]:
    """Inputs of shape (rows, 13), in the order of the fields."""
    return np.array([msgspec.structs.astuple(row) for row in rows], dtype=np.float64).reshape(len(rows), len(FIELDS))
