"""Why a label is rejected: for a dead letter, which is indexed, so without the label."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pytest

from inflight.adapters.evaluator import RegistryEvaluator
from inflight.settings import Settings

SECRET = "Braund, Mr. Owen Harris"


class Label(msgspec.Struct, forbid_unknown_fields=True):
    who: Literal["a", "b"]


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (Literal["a", "b"], SECRET),
        (Label, {"who": SECRET}),
        (Label, {SECRET: "a"}),
        (Annotated[str, msgspec.Meta(max_length=3)], SECRET),
        (float, SECRET),
        (list[Literal["a"]], [SECRET]),
    ],
)
def test_a_rejected_label_is_not_quoted(kind: Any, label: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.adapters.evaluator.known_models", lambda: {"m": SimpleNamespace(Label=kind)})
    evaluator = RegistryEvaluator(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    reason = evaluator.rejection_reason("m", msgspec.json.encode(label))
    assert reason is not None
    assert reason.startswith("no label of m: ")
    assert not set(SECRET.replace(",", "").replace(".", "").split()) & set(reason.replace("'", " ").split())


def test_bytes_that_are_no_text_are_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.adapters.evaluator.known_models", lambda: {"m": SimpleNamespace(Label=str)})
    evaluator = RegistryEvaluator(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    assert "0xff" not in (evaluator.rejection_reason("m", b'"\xff"') or "0xff")
