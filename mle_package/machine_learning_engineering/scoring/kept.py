"""Which columns of the inputs the output repeats."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from machine_learning_engineering.core.frames import PREDICTION
from machine_learning_engineering.scoring.chunks import Layout
from machine_learning_engineering.scoring.columns import POSITION
from machine_learning_engineering.scoring.inputs import InputFile, InputRefused

if TYPE_CHECKING:
    import pyarrow as pa


def kept_columns(
    inputs: Sequence[InputFile], layouts: Sequence[Layout], wanted: Sequence[str] | None, label: str
) -> "dict[str, pa.DataType]":
    """Names and types of the columns that are carried through, those of all inputs.

    Raises:
        InputRefused: A column is in no input, has two types, or has the name of a column of the output.
    """
    known = {name for layout in layouts for name in layout.types}
    for name, option in [*((one, "--keep") for one in wanted or ()), *([(label, "--label")] if label else [])]:
        if name not in known:
            raise InputRefused(f"no input has a column `{name}` ({option}): there are {', '.join(sorted(known))}")
    kept: dict[str, tuple[Any, str]] = {}
    for file, layout in zip(inputs, layouts, strict=True):
        names = layout.found.others if wanted is None else [name for name in wanted if name in layout.types]
        for name in dict.fromkeys([*names, *([label] if label in layout.types else [])]):
            if name in POSITION or name.startswith(PREDICTION) or name == "prediction":
                raise InputRefused(
                    f"{file.path}: column `{name}` has the name of a column of the output: "
                    "say with --keep which columns are carried through"
                )
            kind, where = kept.setdefault(name, (layout.types[name], file.path))
            if kind != layout.types[name]:
                raise InputRefused(
                    f"column `{name}` is {kind} in {where}, and {layout.types[name]} in {file.path}: "
                    "score them one by one, or say with --keep which columns are carried through"
                )
    return {name: kind for name, (kind, _) in kept.items()}
