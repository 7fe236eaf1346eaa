"""The demo: stack, training, workers, indexer, exporter, real data, and an audit."""
