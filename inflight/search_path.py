"""Where the rooms are found: beside this package in a checkout, inside it in an installed wheel.

`model`, `monitoring`, `producers` and `stream_app` in site-packages would take four common names from everybody. A
wheel has them in `inflight/rooms`, which only a process that imports `inflight` searches.
Reasons: docs/decisions/0027-release.md
"""

import sys
from pathlib import Path

ROOMS = Path(__file__).with_name("rooms")

if ROOMS.is_dir() and str(ROOMS) not in sys.path:
    # First, so that a `model` of somebody else does not become ours. Children get this path by PYTHONPATH.
    sys.path.insert(0, str(ROOMS))
