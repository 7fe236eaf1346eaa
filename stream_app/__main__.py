"""``python -m stream_app`` runs one worker with the champion of every model; ``--check`` only checks Faust's build."""

import os
import sys

from stream_app.faust_adapter.app import check_faust
from stream_app.worker import main

if __name__ == "__main__":
    # What it writes is for this user alone.
    os.umask(0o077)
    if sys.argv[1:] == ["--check"]:
        check_faust()
        print("compiled")  # noqa: T201 - the result of the check
    elif sys.argv[1:]:
        sys.exit("usage: python -m stream_app [--check]; settings come from INFLIGHT_* variables")
    else:
        main()
