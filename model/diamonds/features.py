"""Features and prediction of the diamonds model, and the inputs of its estimator."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

# From worst to best.
Cut = Literal["Fair", "Good", "Very Good", "Premium", "Ideal"]
Color = Literal["J", "I", "H", "G", "F", "E", "D"]
Clarity = Literal["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"]

# In the dataset 0 stands for a length that was not measured, so 0 is valid and means "unknown".
Millimetres = Annotated[float, Meta(ge=0, le=100)]


class DiamondFeatures(Struct, frozen=True, forbid_unknown_fields=True):
    """One diamond. All fields are required, because no row of the dataset lacks one."""

    carat: Annotated[float, Meta(gt=0, le=50, description="Weight in carats of 0.2 g.", examples=[0.23])]
    cut: Annotated[Cut, Meta(description="Quality of the cut.", examples=["Ideal"])]
    color: Annotated[Color, Meta(description="J is the worst, D the best.", examples=["E"])]
    clarity: Annotated[Clarity, Meta(description="I1 is the worst, IF the best.", examples=["SI2"])]
    depth: Annotated[float, Meta(gt=0, le=100, description="Height in per cent of the mean width.", examples=[61.5])]
    table: Annotated[
        float, Meta(gt=0, le=100, description="Width of the top in per cent of the widest point.", examples=[55.0])
    ]
    x: Annotated[Millimetres, Meta(description="Length in mm; 0 if unknown.", examples=[3.95])]
    y: Annotated[Millimetres, Meta(description="Width in mm; 0 if unknown.", examples=[3.98])]
    z: Annotated[Millimetres, Meta(description="Height in mm; 0 if unknown.", examples=[2.43])]


class DiamondPrediction(Struct, frozen=True):
    """`price` is in US dollars."""

    price: Annotated[float, Meta(description="US dollars.", examples=[326.5])]


INPUTS = DiamondFeatures.__struct_fields__
"""Names of the columns of `build_inputs`."""
GRADES = {"cut": len(get_args(Cut)), "color": len(get_args(Color)), "clarity": len(get_args(Clarity))}
"""Number of ranks of each grade."""

Price = Annotated[float, Meta(gt=0, le=1e7, description="US dollars.")]

_CUT = {grade: float(rank) for rank, grade in enumerate(get_args(Cut))}
_COLOR = {grade: float(rank) for rank, grade in enumerate(get_args(Color))}
_CLARITY = {grade: float(rank) for rank, grade in enumerate(get_args(Clarity))}


def build_inputs(rows: Sequence[DiamondFeatures]) -> NDArray[np.float64]:
    """Inputs of shape (rows, 9), in the order of `INPUTS`; a grade is its rank, an unknown length NaN."""
    cut, color, clarity = _CUT, _COLOR, _CLARITY
    numbers = [(r.carat, cut[r.cut], color[r.color], clarity[r.clarity], r.depth, r.table, r.x, r.y, r.z) for r in rows]
    matrix = np.array(numbers, dtype=np.float64).reshape(len(rows), 9)
    lengths = matrix[:, 6:]
    lengths[lengths == 0] = np.nan
    return matrix
