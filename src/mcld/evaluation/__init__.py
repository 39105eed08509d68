"""What a network is worth: accuracy, agreement, cost."""

from mcld.evaluation.accuracy import Accuracy, evaluate, measure

__all__ = ["Accuracy", "evaluate", "measure"]
