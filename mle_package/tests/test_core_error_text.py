"""Errors are told by type and place, and only those of machines in their own words."""

from types import SimpleNamespace

import numpy as np
import pytest

from machine_learning_engineering.core import error_text
from machine_learning_engineering.registry.manifest import RegistryError

CANARY = "CANARY7f3a"


def caught(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("it did not raise")


def test_the_place_is_the_authors_line_and_not_the_librarys():
    """Where numpy raises, who called it is what helps."""
    error = caught(lambda: np.linalg.inv(np.zeros((2, 3))))
    assert error_text.describe_origin(error).startswith("LinAlgError at test_core_error_text.py:")
    assert error_text.type_name(error) == "numpy.linalg.LinAlgError"


def test_an_exception_that_was_never_raised_has_no_place():
    """Nor one whose traceback was lost."""
    assert error_text.describe_origin(ValueError(CANARY)) == "ValueError"
    assert "ValueError" in error_text.stack_trace(ValueError(CANARY))


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RegistryError("no version"), TimeoutError("5 s")])
def test_errors_of_machines_have_their_words(error):
    """They are about addresses, files and versions."""
    assert str(error) in error_text.safe_message(error)


def test_a_traceback_names_causes_contexts_and_groups_without_their_texts():
    """All that can hang on an exception."""

    def both():
        try:
            raise KeyError(CANARY)
        except KeyError:
            group = ExceptionGroup(CANARY, [ValueError(CANARY), TypeError(CANARY)])
            group.add_note(CANARY)
            raise group from RuntimeError(CANARY)

    error = caught(both)
    trace = error_text.stack_trace(error)
    # The lines of this file that raise are source code, and do not hold the value itself.
    assert CANARY not in trace
    assert all(name in trace for name in ("ExceptionGroup", "ValueError", "TypeError", "RuntimeError"))
    assert CANARY in error_text.stack_trace(error, all_messages=True)


def test_a_cause_that_is_its_own_cause_ends():
    """Frameworks raise an exception from itself."""
    error = caught(lambda: float(CANARY))
    other = KeyError(CANARY)
    error.__cause__, other.__cause__ = other, error
    assert error_text.stack_trace(error).count("ValueError") == 1


def test_a_recursion_is_cut():
    """A thousand equal lines tell no more than fifty."""
    namespace = SimpleNamespace()
    namespace.call = lambda: namespace.call()
    assert error_text.stack_trace(caught(namespace.call)).count("File") <= 51
