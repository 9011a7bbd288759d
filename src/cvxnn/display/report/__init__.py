"""The report: one page in the browser that tells what a trained network is, how good it is and what would improve it.

A page is plain HTML with pictures as SVG and one style sheet, all in one file: no scripts, no fonts, nothing from
outside.
"""

from __future__ import annotations

from cvxnn.display.report._facts import Facts as Facts
from cvxnn.display.report._facts import Part as Part
from cvxnn.display.report._sections import report_page as report_page
from cvxnn.display.report._words import verdict as verdict

__all__ = ["Facts", "Part", "report_page", "verdict"]
