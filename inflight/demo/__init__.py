"""The whole product in one command: stack, training, workers, indexer, exporter, real data, and a count."""
