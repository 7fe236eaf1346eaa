"""Starts and supervises every process of a deployment on one machine: `inflight run`."""
