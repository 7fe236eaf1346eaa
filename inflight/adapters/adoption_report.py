"""What `inflight adopt` and `inflight try` tell: as JSON values, and as lines for people."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from msgspec import UNSET

from inflight.adapters.adoption import Found
from inflight.rendering import render_metrics
from inflight.settings import Settings
from machine_learning_engineering.adoption.rehearsal import Rehearsal
from machine_learning_engineering.declaration.schema import FeatureDeclaration
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, MODEL_EVENTS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import topic_name

_SHOWN_REASONS = 10


def model_lines(found: Found) -> Iterator[tuple[str, str]]:
    """What the file is, and whether its library is the installed one."""
    import sklearn

    opened = found.opened
    yield "model", f"{found.declaration.model.name}, from {opened.format}, sha256 {opened.sha256[:12]}"
    if opened.types:
        yield "types", f"{len(opened.types)} besides arrays and numbers: {', '.join(opened.types)}"
    if opened.scikit_learn_version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        yield (
            "version",
            f"fitted with scikit-learn {opened.scikit_learn_version}, installed is {sklearn.__version__}: "
            "parity below tells whether it still answers the same",
        )
    else:
        yield "version", f"scikit-learn {opened.scikit_learn_version}, as installed"


def feature_rows(found: Found) -> Iterator[tuple[str, ...]]:
    """The table of columns: name, type, missing, values, and its field in the events."""
    for name, feature in found.declaration.features.items():
        yield (
            name,
            feature.type,
            "ok" if feature.missing == "ok" else "refused",
            values_of(feature),
            field_of(found, name),
        )


def values_of(feature: FeatureDeclaration) -> str:
    """The usual values of a feature, and what is refused."""
    told = []
    if feature.constant is not UNSET:
        told.append(f"always {feature.constant}")
    if feature.range is not UNSET:
        told.append(f"{feature.range[0]:g} to {feature.range[1]:g}")
    if feature.known:
        shown = ", ".join(map(str, feature.known[:6])) + (
            f" and {len(feature.known) - 6} more" if len(feature.known) > 6 else ""
        )
        told.append(f"{shown} ({'others refused' if feature.others == 'refuse' else 'others counted'})")
    limits = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
    told += [f"{sign} {getattr(feature, name):g}" for name, sign in limits if getattr(feature, name) is not UNSET]
    return "; ".join(told) or "any"


def field_of(found: Found, name: str) -> str:
    """The path of a feature in the events, AMBIGUOUS with those that may be it, or ???."""
    if found.declaration.source is None:
        return ""
    match = None if found.proposal is None else found.proposal.matches.get(name)
    if match is not None and match.path is None:
        return f"AMBIGUOUS: {' or '.join(match.paths[:5])}" if match.paths else "???"
    return found.declaration.features[name].from_ or name


def answer_lines(found: Found) -> Iterator[tuple[str, str]]:
    """The answer, the figures on the sample, and parity."""
    for field, expression in found.declaration.model.answer.items():
        yield "answer", f"{field} = {expression}"
    for note in found.notes:
        yield "note", note
    candidate = found.candidate
    if candidate is None:
        return
    if not candidate.rows:
        yield "sample", "none: no parity, no figures and no reference for drift (--sample FILE)"
        return
    metrics = (
        render_metrics(candidate.metrics) if candidate.metrics else "without labels, so no figures (--label COLUMN)"
    )
    yield "sample", f"{len(candidate.rows):,} rows: {metrics}"
    if candidate.metrics:
        yield "", "of rows that the model may have been fitted on: then they are better than live ones will be"
    if candidate.parity is not None:
        yield "parity", candidate.parity.text


def event_lines(found: Found, rehearsal: Rehearsal | None, settings: Settings) -> Iterator[tuple[str, str]]:
    """What became of the newest events, and what the worker needs on the broker."""
    source = found.declaration.source
    if source is None:
        yield "requests", f"on {topic_name(settings, REQUESTS)}, or over HTTP"
    else:
        keyed = f"; the key is {found.fields.key}" if found.fields and found.fields.key else ""
        yield (
            "topic",
            f"{source.topic}: request id {source.request_id}, time {source.requested_at or 'of the record'}{keyed}",
        )
    if rehearsal is not None:
        yield from rehearsal_lines(rehearsal)
    reads = [source.topic] if source is not None else []
    reads += [topic_name(settings, name) for name in (REQUESTS, MODEL_EVENTS)]
    writes = [found.declaration.result.topic or topic_name(settings, RESULTS)]
    writes += [topic_name(settings, name) for name in (LOGS, DEAD_LETTERS)]
    yield "rights", f"workers read {', '.join(reads)} and write {', '.join(writes)}"


def rehearsal_lines(rehearsal: Rehearsal) -> Iterator[tuple[str, str]]:
    """Answers and refusals of events."""
    yield "events", f"{len(rehearsal.answers):,} of the newest {rehearsal.events:,} are answered"
    for reason, count in rehearsal.refusals.most_common(_SHOWN_REASONS):
        yield "", f"{count:,} refused: {reason}"
    for (feature, reason), count in sorted(rehearsal.unusual.items(), key=lambda item: -item[1])[:_SHOWN_REASONS]:
        yield "", f"{count:,} accepted: {f'{feature} is {reason}' if feature else reason}"


def drift_lines(rehearsal: Rehearsal) -> Iterator[tuple[str, str]]:
    """Drift of the events against the sample, and durations."""
    report = rehearsal.drift
    if report is not None:
        drifted = [test for test in report.tests if test.drifted]
        yield (
            "drift",
            f"{len(report.drifted)} of the fields differ from the sample" if drifted else "none against the sample",
        )
        for test in drifted[:_SHOWN_REASONS]:
            yield "", f"{test.field} {test.statistic}: PSI {test.psi:.3g}, adjusted p {test.p_adjusted:.2g}"
    elif rehearsal.answers:
        yield "drift", "unknown: the version has no reference profile (adopt it with --sample)"
    if durations := sorted(rehearsal.alone_seconds):
        rate = len(rehearsal.answers) / rehearsal.batch_seconds if rehearsal.batch_seconds else 0.0
        highest = durations[min(len(durations) - 1, int(len(durations) * 0.99))]
        yield (
            "latency",
            f"one event {median(durations) * 1000:.2f} ms (p50), {highest * 1000:.2f} ms (p99) of {len(durations)}; "
            f"{rate:,.0f}/s in a batch, without Kafka",
        )


def diff_lines(path: Path, text: str) -> list[str]:
    """The difference between a file and the text that would replace it."""
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    name = str(path)
    return list(
        difflib.unified_diff(before, text.splitlines(), name if before else "/dev/null", name, lineterm="", n=1)
    )


def as_json(found: Found, rehearsal: Rehearsal | None) -> dict[str, Any]:
    """All of it for programs."""
    candidate, declared = found.candidate, found.declaration
    report: dict[str, Any] = {
        "model": declared.model.name,
        "format": found.opened.format,
        "sha256": found.opened.sha256,
        "scikit_learn": found.opened.scikit_learn_version,
        "types": list(found.opened.types),
        "declaration": msgspec.to_builtins(declared),
        "fields": {name: field_of(found, name) for name in declared.features} if declared.source else {},
        "notes": found.notes,
        "undecided": [] if found.proposal is None else found.proposal.undecided,
    }
    if candidate is not None:
        report |= {"rows": len(candidate.rows), "metrics": candidate.metrics}
        if candidate.parity is not None:
            report["parity"] = {"exact": candidate.parity.exact, "text": candidate.parity.text}
    if rehearsal is not None:
        report["events"] = rehearsal_json(rehearsal)
    return report


def rehearsal_json(rehearsal: Rehearsal, *, answers: bool = False) -> dict[str, Any]:
    """A rehearsal for programs; every answer only if it is asked for."""
    report = rehearsal.drift
    durations = sorted(rehearsal.alone_seconds)
    found: dict[str, Any] = {
        "read": rehearsal.events,
        "answered": len(rehearsal.answers),
        "refused": dict(rehearsal.refusals.most_common()),
        "unusual": [
            {"feature": name, "reason": why, "events": n} for (name, why), n in sorted(rehearsal.unusual.items())
        ],
        "drifted": None if report is None else report.drifted,
        "p50_ms": round(median(durations) * 1000, 3) if durations else None,
        "rows_per_second": round(len(rehearsal.answers) / rehearsal.batch_seconds) if rehearsal.batch_seconds else None,
    }
    if answers:
        found["answers"] = [
            {"request_id": request_id, "prediction": msgspec.to_builtins(prediction)}
            for request_id, prediction in rehearsal.answers
        ]
    return found
