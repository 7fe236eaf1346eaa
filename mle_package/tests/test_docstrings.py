"""The examples in docstrings are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    ["core.timestamps", "evaluation.estimates", "evaluation.metrics", "evaluation.splits", "drift.statistics"],
)
def test_examples_in_docstrings_are_true(module):
    found = doctest.testmod(importlib.import_module(f"machine_learning_engineering.{module}"))
    assert found.attempted
    assert not found.failed
