"""`inflight indexer`, as it is."""

from inflight.settings import load_settings
from monitoring.indexer.process import run

if __name__ == "__main__":
    run(load_settings())
