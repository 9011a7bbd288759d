"""Section on the course of the training: objective and bound over the iterations, and how the gap closed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import GatedReLU
from cvxnn.display.report._facts import Facts
from cvxnn.display.report._markup import Markup, tag
from cvxnn.display.report._svg import Axis, Series, curves, legend
from cvxnn.display.report._words import bound_figure, figure, gap_figure
from cvxnn.interop.model import Course, Model

FloatArray = npt.NDArray[np.float64]

__all__ = ["course_section"]

_LEAST_GAP = 1e-16
_TINY = 1e-300


def course_section(facts: Facts) -> Markup:
    """How the objective fell and the bound rose, or why that is not known."""
    heading = tag("h2", "How the training went", id="course")
    course = facts.model.course if isinstance(facts.model, Model) else None
    if course is None or not facts.fits_file:
        return tag("section", heading, tag("p", _missing(facts)), aria_labelledby="course")
    words = (
        f"The training took {_iterations(course)}, says the file; before them are no neurons at all. Each improved "
        "the network or the bound, or both. Iterations are counted instead of seconds, which differ from run to run."
    )
    # Training starts anywhere; what is common to all is that no neurons at all come before.
    first = () if course.iterations[0] == 0 else (0,)
    x = np.array([*first, *course.iterations], dtype=np.float64)
    empty = [float(facts.way_down(count=1)[1][0])]
    objective = np.array([*(empty * len(first)), *course.objective])
    body = tag("div", _objective(facts, course, x, objective), _gap(facts, course, x, objective), class_="row")
    return tag("section", heading, tag("p", words), body, aria_labelledby="course")


def _missing(facts: Facts) -> str:
    if not isinstance(facts.model, Model):
        return "Files of other programs do not tell how the training went."
    if facts.model.course is None:
        return (
            "The model file holds no course of the training: an earlier version wrote it, or it was interrupted early."
        )
    return "The course in the model file is that of other rows or other weights, and is not shown."


def _iterations(course: Course) -> str:
    count = course.iterations[-1]
    return f"{count:,} iteration{'' if count == 1 else 's'}"


def _objective(facts: Facts, course: Course, x: FloatArray, objective: FloatArray) -> Markup:
    bounds = [(k, value) for k, value in zip(course.iterations, course.lower_bound, strict=True) if value is not None]
    lines = [Series("objective", "network", *_steps(x, objective))]
    if bounds:
        where, lower = np.array(bounds, dtype=np.float64).T
        lines.append(Series("bound so far", "bound", *_steps(where, lower)))
    told = f"; the bound ended at {bound_figure(bounds[-1][1])}" if bounds else ""
    picture = curves(
        "course-objective",
        "Objective and bound over the iterations",
        f"The objective fell from {figure(objective[0])} to {figure(objective[-1])}{told}.",
        Axis.around(x, "iteration", whole=True, tight=True),
        Axis.around(np.concatenate([line.y for line in lines]), "objective", zero=True),
        lines,
    )
    caption = f"The objective falls and the bound rises; where they meet nothing is left to be gained.{_scope(facts)}"
    entries = [(line.label, line.style, "curve") for line in lines]
    return tag("figure", picture, legend(entries), tag("figcaption", caption))


def _gap(facts: Facts, course: Course, x: FloatArray, objective: FloatArray) -> Markup:
    """Distance from the last bound, which was proved at the end and holds all along."""
    bound = course.lower_bound[-1] or 0.0
    gaps = np.maximum((objective - bound) / np.maximum(np.abs(objective), _TINY), _LEAST_GAP)
    picture = curves(
        "course-gap",
        "Gap over the iterations",
        f"The distance to the last bound, as a share of the objective, fell from {gap_figure(gaps[0])} to "
        f"{gap_figure(gaps[-1])}.{_scope(facts)}",
        Axis.around(x, "iteration", whole=True, tight=True),
        Axis.powers(gaps, "gap (share of the objective)"),
        [Series("gap", "network", *_steps(x, np.log10(gaps)))],
    )
    caption = f"How far the objective was above the last bound, on a scale of powers of ten.{_scope(facts)}"
    return tag("figure", picture, tag("figcaption", caption))


def _scope(facts: Facts) -> str:
    """Warning where the bound of the training is not about all networks of the kind."""
    whole = isinstance(facts.model, Model) and facts.model.certificate.scope == "global"
    if whole or isinstance(facts.model.architecture, GatedReLU):
        return ""
    return " This bound is about the networks that the search considered, not about all."


def _steps(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners of the stairs through the points: a value stays until the next one."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
