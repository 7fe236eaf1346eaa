"""Records of a rollout, and what models make of predictions and labels in them."""

from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from inflight.adapters.losses import RegistryLosses
from inflight.settings import Settings
from machine_learning_engineering.events.schemas import encode
from monitoring.rollout_evidence.answers import pair_of
from monitoring.rollout_evidence.records import Records
from monitoring.rollout_evidence.summary import summarize
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, dose, mutated
from tests.support.rollout_records import CANARY, SHADOW, label, logged, shadowed

DOORS = (
    "inflight/adapters/losses.py:RegistryLosses.is_valid",
    "inflight/adapters/losses.py:_Version.__init__",
    "mle_package/machine_learning_engineering/rollout/comparison.py:_decode",
    "monitoring/rollout_evidence/records.py:decode_logged",
)
RECORDS = tuple(
    encode(event)
    for event in (
        logged(SHADOW, 1),
        logged(CANARY, 2, "challenger", error="prediction_error"),
        shadowed(SHADOW, 3, 1.0, 2.0),
        label(SHADOW, 3, 300.0),
    )
)
TEXTS = (b'{"price":326.5}', b"326.5", b'{"price":-1e308,"more":{"a":[1],"b":"text"}}', b'{"price":null}', b"true")


def losses(tmp_path: Path) -> RegistryLosses:
    return RegistryLosses(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]


def test_any_record_leaves_evidence_that_can_be_summed_up(tmp_path: Path) -> None:
    known = losses(tmp_path)

    @dose(40)
    @given(
        values=st.lists(mutated(RECORDS), max_size=4),
        rollout=st.sampled_from([SHADOW, CANARY]),
        milliseconds=st.sampled_from([corpus.MILLISECONDS, 0, 2**62]),
    )
    def check(values: list[bytes], rollout: type, milliseconds: int) -> None:
        records = Records(rollout, known)  # type: ignore[arg-type]
        with bounded(sum(map(len, values))):
            for value in (*values, *RECORDS):
                records.log(value)
                records.shadow(value)
                records.label(corpus.message("prediction-labels", value, timestamp=(2, milliseconds)))
            found = summarize(records, known, SHADOW.stage_at + timedelta(days=1))
        for arm in (found.champion, found.challenger):
            assert arm.errors + arm.invalid <= arm.requests
            assert arm.labelled <= arm.mature <= arm.requests
        assert found.pairs.better + found.pairs.worse <= found.pairs.labelled <= found.pairs.pairs

    check()


def test_any_text_is_compared_and_judged(tmp_path: Path) -> None:
    known = losses(tmp_path)

    @dose(60)
    @given(one=mutated(TEXTS), other=mutated(TEXTS), model=st.sampled_from(["diamonds", "titanic", "reviews", "none"]))
    def check(one: bytes, other: bytes, model: str) -> None:
        with bounded(len(one) + len(other)):
            pair = pair_of((0.0, 0, 0, 0), 0.0, one, other)
            loss = known.loss(model, "v1", one, other)
            valid = known.is_valid(model, "v1", one)
        assert pair.distance is None or pair.distance >= 0
        assert loss is None or (loss >= 0 and valid)

    check()
