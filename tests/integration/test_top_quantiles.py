"""The quantiles and rates that `inflight top` computes, against Prometheus's own."""

import math
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from monitoring.top.samples import Scrape, Window

BOUNDS = (0.001, 0.01, 0.1, 1.0, 10.0, math.inf)


def test_prometheus_computes_the_same(tmp_path: Path) -> None:
    """Of twenty histograms with random counts, one of them restarted in between."""
    if shutil.which("promtool") is None:
        assert not os.environ.get("REQUIRE_REAL"), "promtool is missing: install Debian's prometheus"
        pytest.skip("promtool is not installed")
    chance, cases, inputs = random.Random(7), [], []
    for number in range(20):
        grown = [chance.choice([0, chance.randrange(1_000)]) for _ in BOUNDS]
        # Far from zero, where Prometheus extrapolates each counter in a way of its own.
        start = [chance.randrange(10_000, 20_000) for _ in BOUNDS]
        window, scrapes = Window(10_000), []
        for minute in range(3):
            counts = [sum(start[: i + 1]) + minute * sum(grown[: i + 1]) for i in range(len(BOUNDS))]
            if number == 0 and minute == 2:
                counts = [count // 5 for count in counts]
            scrapes.append(counts)
            found = {
                ("took_bucket", frozenset({("case", str(number)), ("le", str(bound))})): float(count)
                for bound, count in zip(BOUNDS, counts, strict=True)
            }
            window.add("x", Scrape(minute * 60.0, found))
        for index, bound in enumerate(BOUNDS):
            le = "+Inf" if bound == math.inf else str(bound)
            values = " ".join(str(counts[index]) for counts in scrapes)
            inputs.append({"series": f'took_bucket{{case="{number}",le="{le}"}}', "values": values})
        for q in (0.5, 0.9, 0.99):
            value = window.quantile(q, "took", case=str(number))
            # Counts of an interval that ends with the scrape: Prometheus's extrapolation is a factor on all of them.
            expression = f'histogram_quantile({q}, sum by (le) (rate(took_bucket{{case="{number}"}}[121s])))'
            cases.append((expression, math.nan if value is None else value))
    tests = [
        {
            "expr": f"round({expression} * 1e6)",
            "eval_time": "2m",
            "exp_samples": [{"labels": "{}", "value": round(value * 1e6)}],
        }
        for expression, value in cases
        if not math.isnan(value)
    ]
    assert len(tests) > 50
    path = tmp_path / "quantiles.yml"
    path.write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": tests}]}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
