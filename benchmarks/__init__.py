"""Measured claims: the worker against bare loops and peers, same model and same broker, in one run."""
