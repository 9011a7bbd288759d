"""The landscape of the training problem: judge a network, list the best ones, and walk between them."""

from __future__ import annotations

from cvxnn.landscape.certify import NetworkCertificate as NetworkCertificate
from cvxnn.landscape.certify import certify as certify
