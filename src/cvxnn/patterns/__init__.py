"""Activation patterns of a data set: exact enumeration, counting, sampling, and search for useful gates."""

from __future__ import annotations

from cvxnn.patterns._rank import reduce_rank as reduce_rank
from cvxnn.patterns.activation import ActivationPatterns as ActivationPatterns
from cvxnn.patterns.counting import count_patterns as count_patterns
from cvxnn.patterns.enumeration import enumerate_patterns as enumerate_patterns
from cvxnn.patterns.limits import PatternLimitError as PatternLimitError
from cvxnn.patterns.sampling import sample_patterns as sample_patterns
from cvxnn.patterns.search import SearchResult as SearchResult
from cvxnn.patterns.search import search as search
