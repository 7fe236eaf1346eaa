"""`inflight rollout-controller` as it is, where the model `line` of `shadow_model` is installed."""

import sys

from model import catalog
from tests.support.shadow_model import Faulty

if __name__ == "__main__":
    catalog.discover = lambda: catalog.Catalog({"line": Faulty}, {})
    from inflight.cli import main

    sys.argv = ["inflight", "rollout-controller"]
    main()
