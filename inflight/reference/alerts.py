"""The page of alerts: each with its condition, its severity and its runbook, and the rules that they use."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monitoring
from inflight.reference import markdown
from inflight.reference.markdown import code

_RULES = Path(monitoring.__file__).parent / "deploy" / "prometheus"
_INTRO = (
    "The alerts of `monitoring/deploy/prometheus/alerts.yml`. `critical`: act now; `warning`: act within working "
    "hours. Each name leads to its runbook. [Metrics](../metrics.md#rules-and-alerts) explains the objectives "
    "behind them; the recording rules that conditions use are at the end."
)


def page() -> str:
    """The page."""
    return markdown.page("Alerts", _INTRO, [*_alerts(), "## Recording rules", *_records()])


def rules(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The rules of a file, each with the name of its group."""
    import yaml  # type: ignore[import-untyped]

    groups = yaml.safe_load((_RULES / name).read_text(encoding="utf-8"))["groups"]
    return [(group["name"], rule) for group in groups for rule in group["rules"]]


def _alerts() -> Iterator[str]:
    last = ""
    for group, rule in rules("alerts.yml"):
        if "alert" not in rule:
            continue
        if group != last:
            yield f"## {group}"
            last = group
        notes = rule["annotations"]
        runbook = notes["runbook_url"].replace("docs/", "../", 1)
        yield f"### {rule['alert']}"
        yield f"{code(rule['labels']['severity'])}, after {rule.get('for', '0s')}. [Runbook]({runbook})"
        yield f"*{markdown.prose(notes['summary'])}*"
        yield markdown.prose(notes["description"])
        yield f"```promql\n{rule['expr'].strip()}\n```"


def _records() -> Iterator[str]:
    for name in ("rules.yml", "alerts.yml"):
        for _, rule in rules(name):
            if "record" in rule:
                yield f"### {rule['record']}"
                yield f"```promql\n{rule['expr'].strip()}\n```"
