"""`inflight watch`: the stream at a glance, in a terminal, from the metrics that its processes serve."""
