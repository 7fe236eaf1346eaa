"""Retrains models that are due: one pass as a command, the loop of one machine, and the process that trains."""
