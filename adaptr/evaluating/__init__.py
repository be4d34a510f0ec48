"""From a model's answers to figures: losses, metrics, and how sure they are."""

from adaptr.evaluating.measure import Answered, Measured, answers, measure
from adaptr.evaluating.second import second

__all__ = ["Answered", "Measured", "answers", "measure", "second"]
