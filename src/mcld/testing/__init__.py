"""What mcld's own methods, models and data sets are held to, for those of your own.

Needs nothing but torch. What breaks a rule raises ``AssertionError`` with a line that says which.
"""

from mcld.testing.data import check_data
from mcld.testing.features import check_feature_method
from mcld.testing.logits import check_logit_method
from mcld.testing.models import check_model
from mcld.testing.ranks import check_two_ranks, two_rank_faults

__all__ = [
    "check_data",
    "check_feature_method",
    "check_logit_method",
    "check_model",
    "check_two_ranks",
    "two_rank_faults",
]
