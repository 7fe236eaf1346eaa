"""The terminal view `inflight top`."""
