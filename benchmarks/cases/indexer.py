"""`inflight indexer`, as it is."""

from machine_learning_engineering.settings import load_settings
from monitoring.indexing.indexer import run

if __name__ == "__main__":
    run(load_settings())
