"""Section on the course of the training: objective and bound over the iterations, and how the gap closed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.display.report._facts import Facts
from cvxnn.display.report._markup import Markup, tag
from cvxnn.display.report._svg import Axis, Series, curves, legend
from cvxnn.display.report._words import bound_figure, figure, gap_figure
from cvxnn.interop.model import Course, Model

FloatArray = npt.NDArray[np.float64]

__all__ = ["course_section"]

_LEAST_GAP = 1e-16


def course_section(facts: Facts) -> Markup:
    """How the objective fell and the bound rose, or why that is not known."""
    heading = tag("h2", "How the training went", id="course")
    course = facts.model.course if isinstance(facts.model, Model) else None
    if course is None or not facts.fits_file:
        return tag("section", heading, tag("p", _missing(facts)), aria_labelledby="course")
    words = (
        f"The training took {_iterations(course)}. Each improved the network or the bound, or both; what is proved at "
        "the end holds from the start. Iterations are counted instead of seconds, which differ from run to run."
    )
    if len(set(course.iterations)) == 1:
        words = (
            f"The training took {_iterations(course)}, so that there is no course to draw: the objective ended at "
            f"{figure(course.objective[-1])}."
        )
        return tag("section", heading, tag("p", words), aria_labelledby="course")
    body = tag("div", _objective(course), _gap(course), class_="row")
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


def _objective(course: Course) -> Markup:
    x, objective = np.asarray(course.iterations, dtype=np.float64), np.asarray(course.objective)
    known = [k for k, value in enumerate(course.lower_bound) if value is not None]
    lower = np.array([course.lower_bound[k] for k in known], dtype=np.float64)
    lines = [Series("objective", "network", *_steps(x, objective))]
    final = course.lower_bound[-1]
    if known:
        lines.append(Series("bound so far", "bound", *_steps(x[known], lower)))
    told = f"; the bound ended at {bound_figure(final)}" if final is not None else ""
    picture = curves(
        "course-objective",
        "Objective and bound over the iterations",
        f"The objective fell from {figure(objective[0])} to {figure(objective[-1])}{told}.",
        Axis.around(x, "iteration", whole=True, tight=True),
        Axis.around(np.concatenate([line.y for line in lines]), "objective"),
        lines,
    )
    caption = "The objective falls, the bound rises; they meet where nothing is left to be gained."
    entries = [(line.label, line.style, "curve") for line in lines]
    return tag("figure", picture, legend(entries), tag("figcaption", caption))


def _gap(course: Course) -> Markup:
    """Distance from the bound at the end, which holds for all networks of the course."""
    x, objective, final = np.asarray(course.iterations, dtype=np.float64), course.objective, course.lower_bound[-1]
    bound = 0.0 if final is None else final
    gaps = np.maximum((np.asarray(objective) - bound) / np.maximum(np.abs(objective), 1e-300), _LEAST_GAP)
    picture = curves(
        "course-gap",
        "Gap over the iterations",
        f"What could still be gained, as a share of the objective, fell from {gap_figure(gaps[0])} to "
        f"{gap_figure(gaps[-1])}.",
        Axis.around(x, "iteration", whole=True, tight=True),
        Axis.powers(gaps, "gap, a share of the objective"),
        [Series("gap", "network", *_steps(x, np.log10(gaps)))],
    )
    caption = "How far the objective is above the bound at the end; each line of the grid is a power of ten."
    return tag("figure", picture, tag("figcaption", caption))


def _steps(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners of the stairs through the points: a value stays until the next one."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
