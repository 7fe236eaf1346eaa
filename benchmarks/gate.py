"""A regression gate on ratios: machines differ from night to night, two cases of the same rounds do not.

python -m benchmarks --only worker --only bare-logged --runs 5 --skip-latency --json | python -m benchmarks.gate
"""

import json
import sys
from statistics import median
from typing import Any

FLOORS = {("worker", "bare-logged"): 1.1}
"""Least median ratio of the rates of two cases. Measured: 1.30, see docs/benchmarks.md."""


def findings(figures: dict[str, Any]) -> list[str]:
    """A line for each ratio below its floor, each pair without rounds, and each case that lost or changed an answer."""
    found = []
    rates: dict[str, list[float]] = {}
    for run in figures["throughput"]:
        rates.setdefault(run["case"], []).append(run["rate"])
        found += [f"{run['case']}: {run[what]} {what}" for what in ("lost", "differing") if run[what]]
    for (case, other), floor in FLOORS.items():
        rounds = list(zip(rates.get(case, ()), rates.get(other, ()), strict=False))
        if not rounds:
            found.append(f"{case} against {other}: no round has both")
            continue
        ratio = median(one / two for one, two in rounds)
        if ratio < floor:
            found.append(f"{case} is {ratio:.2f} times as fast as {other}, the floor is {floor:.2f}")
    return found


def main() -> int:
    last = sys.stdin.read().strip().rpartition("\n")[2]
    found = findings(json.loads(last))
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
