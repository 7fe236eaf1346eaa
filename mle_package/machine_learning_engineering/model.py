"""The contract of a model: what a data scientist writes, and what the stream calls."""

from abc import ABC
