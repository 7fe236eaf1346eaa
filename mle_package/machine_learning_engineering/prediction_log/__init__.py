"""Prediction logs: the port, a SQLite store, Parquet export and logging at predict time."""
