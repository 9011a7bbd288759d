"""One file a peer; each function takes a ``Job`` and returns an ``Outcome``."""
