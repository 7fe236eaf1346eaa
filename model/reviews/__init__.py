"""Sentiment of a product review, positive, neutral or negative, from its title and text."""

from model.reviews.model import Reviews

MODEL = Reviews

__all__ = ["MODEL", "Reviews"]
