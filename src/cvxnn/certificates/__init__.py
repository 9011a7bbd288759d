"""Bounds and proofs. Nothing here imports a solver, so that a solver's fault cannot certify itself."""

from cvxnn.certificates.certificate import Certificate as Certificate
from cvxnn.certificates.certificate import certify_global as certify_global
from cvxnn.certificates.certificate import certify_patterns as certify_patterns
