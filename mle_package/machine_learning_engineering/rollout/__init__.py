"""Rollouts: which version answers which request, what is known of two versions, and what follows from it. Pure.

Nothing here reads a file, a topic or a clock. `registry.rollouts` keeps the record, workers follow it, and the rollout
controller moves it.
"""
