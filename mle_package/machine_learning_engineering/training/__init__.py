"""Training: data, search, evaluation, promotion and the log of runs."""
