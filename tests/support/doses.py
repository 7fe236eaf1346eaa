"""Doses of the fault tests: what proves the point by default, more kills and longer outages with `make faults`."""

import os

FULL = os.environ.get("INFLIGHT_TEST_DOSE") == "full"
