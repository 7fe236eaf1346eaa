"""Notebooks: each `.py` file beside this one that is named for a model, in the percent format of jupytext."""
