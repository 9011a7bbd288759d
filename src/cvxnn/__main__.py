"""Run the command line: ``python -m cvxnn``."""

from __future__ import annotations

from cvxnn.cli import main

if __name__ == "__main__":
    main()
