"""Section on the fit: predicted against true values with residuals, or right and wrong for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cvxnn.display.report._facts import Facts, Part
from cvxnn.display.report._markup import Markup, name, table, tag
from cvxnn.display.report._svg import Axis, Series, columns, legend, points
from cvxnn.interop.targets import Target

FloatArray = npt.NDArray[np.float64]

__all__ = ["fit_section", "score_word", "short", "shown_score"]

_MOST_POINTS = 1000
_MOST_TARGETS = 4
_BINS = 21


def fit_section(facts: Facts) -> Markup:
    """How well the outputs meet the targets."""
    body = _regression(facts) if facts.model.target.kind == "regression" else _classes(facts)
    return tag("section", tag("h2", "How well it fits", id="fit"), *body, aria_labelledby="fit")


def short(value: float) -> str:
    """Number to four digits."""
    return f"{value:.4g}"


def score_word(target: Target) -> str:
    """Name of the score."""
    return "R²" if target.kind == "regression" else "accuracy"


def shown_score(score: float | None) -> str:
    """Score with four digits, or words where there is none."""
    return "not defined" if score is None else f"{score:.4f}"


def _regression(facts: Facts) -> list[Markup]:
    target = facts.model.target
    rows = []
    for k, column in enumerate(target.parts):
        for part in facts.parts:
            true, predicted = _true_and_predicted(facts, part, k)
            error = float(np.sqrt(np.mean((true - predicted) ** 2)))
            rows.append([name(column.name), part.label, _r2(true, predicted), short(error)])
    drawn = [_target_pictures(facts, k) for k in range(min(len(target.parts), _MOST_TARGETS))]
    omitted = len(target.parts) - len(drawn)
    notes = [tag("p", f"Pictures are shown for the first {_MOST_TARGETS} targets only.")] if omitted else []
    words = (
        "R² is 1 for perfect predictions and 0 for always predicting the mean. The typical error is the root of the "
        "mean squared difference, in the units of the target."
    )
    return [
        tag("p", words),
        table("Fit", ["Target", "Rows", "R²", "Typical error"], rows, numbers=(2, 3)),
        *notes,
        *drawn,
    ]


def _true_and_predicted(facts: Facts, part: Part, k: int) -> tuple[FloatArray, FloatArray]:
    target = facts.model.target.parts[k]
    encoded = part.encoded[:, k] if part.encoded.ndim == 2 else part.encoded
    outputs = part.outputs[:, k] if part.outputs.ndim == 2 else part.outputs
    return target.mean + target.scale * encoded, target.mean + target.scale * outputs


def _r2(true: FloatArray, predicted: FloatArray) -> str:
    total = float(np.sum((true - true.mean()) ** 2))
    return shown_score(None if total == 0.0 else 1.0 - float(np.sum((true - predicted) ** 2)) / total)


def _target_pictures(facts: Facts, k: int) -> Markup:
    title = facts.model.target.parts[k].name
    pairs = [_true_and_predicted(facts, part, k) for part in facts.parts]
    heading = tag("h3", "Predicted and true values of ", name(title))
    return tag("div", heading, tag("div", _scatter(facts, k, pairs), _residuals(facts, k, pairs), class_="row"))


def _scatter(facts: Facts, k: int, pairs: Sequence[tuple[FloatArray, FloatArray]]) -> Markup:
    total = sum(len(true) for true, _ in pairs)
    groups, drawn = [], 0
    for (true, predicted), part, style in zip(pairs, facts.parts, ("network", "heldout"), strict=False):
        chosen = _sample(len(true), total)
        drawn += len(chosen)
        groups.append(Series(part.label, style, true[chosen], predicted[chosen]))
    everything = np.concatenate([np.concatenate([group.x, group.y]) for group in groups])
    across, up = Axis.around(everything, "true value"), Axis.around(everything, "predicted value")
    picture = points(
        f"scatter-{k}",
        "Predicted against true values",
        f"{drawn} points: {', '.join(f'{len(g.x)} {g.label}' for g in groups)}. Points on the dashed diagonal are "
        "predicted exactly; the table of the fit has R² and the typical error.",
        across,
        up,
        groups,
    )
    told = f" {drawn:,} of {total:,} rows are drawn, chosen at random." if drawn < total else ""
    caption = tag("figcaption", f"Points on the dashed line are predicted exactly.{told}")
    kinds = ("disc", "square")
    entries = [(group.label, group.style, kind) for group, kind in zip(groups, kinds, strict=False)]
    return tag("figure", picture, legend(entries), caption)


def _sample(count: int, total: int) -> npt.NDArray[np.int64]:
    """Rows to draw, their share of all points; the same ones in each report."""
    if total <= _MOST_POINTS:
        return np.arange(count)
    wanted = max(1, count * _MOST_POINTS // total)
    return np.sort(np.random.default_rng(0).choice(count, size=wanted, replace=False))


def _residuals(facts: Facts, k: int, pairs: Sequence[tuple[FloatArray, FloatArray]]) -> Markup:
    true, predicted = pairs[0]
    label = facts.parts[0].label
    residuals = true - predicted
    # Bins lie around 0; a reach of rounding alone would make their edges coincide.
    reach = max(float(np.max(np.abs(residuals))), 1e-9 * float(np.max(np.abs(true))), 1e-300)
    edges = np.linspace(-reach, reach, _BINS + 1)
    counts = np.histogram(residuals, edges)[0].astype(np.float64)
    inside = float(np.mean(np.abs(residuals) <= float(np.sqrt(np.mean(residuals**2)))))
    picture = columns(
        f"residuals-{k}",
        "Residuals",
        f"Histogram of true minus predicted value of the {len(true)} {label}, from {short(float(residuals.min()))} to "
        f"{short(float(residuals.max()))}; {inside:.0%} are within the typical error.",
        Axis.around(edges, "true minus predicted value"),
        Axis.around(counts, "number of rows", whole=True, zero=True),
        edges=edges,
        heights=counts,
        styles=["network"] * _BINS,
    )
    caption = f"Residuals of the {len(true):,} {label}: a hump around 0 is what a good fit has."
    return tag("figure", picture, tag("figcaption", caption))


def _classes(facts: Facts) -> list[Markup]:
    model = facts.model
    lines = []
    for part, score in zip(facts.parts, facts.scores(), strict=True):
        largest = float(np.max(np.bincount(part.encoded.astype(np.int64)))) / len(part.encoded)
        lines.append(
            tag(
                "li",
                f"The accuracy on the {len(part.encoded):,} {part.label} is {shown_score(score)}; always naming their "
                f"most frequent class has {largest:.4f}.",
            )
        )
    names = model.target.classes
    return [tag("ul", *lines), *(_class_table(facts, part, names) for part in facts.parts)]


def _class_table(facts: Facts, part: Part, names: Sequence[str]) -> Markup:
    true, predicted = part.encoded.astype(np.int64), facts.model.target.decode_positions(part.outputs)
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (true, predicted), 1)
    rows = []
    for k, label in enumerate(names):
        wrong = confusion[k].copy()
        right, count = int(wrong[k]), int(wrong.sum())
        wrong[k] = 0
        worst = int(np.argmax(wrong))
        taken = tag("span", name(names[worst], 30), f" ({wrong[worst]})") if wrong[worst] else "none"
        rows.append([name(label), f"{count:,}", f"{right:,}", f"{right / count:.0%}" if count else "", taken])
    head = ["True class", "Rows", "Right", "Share", "Most often mistaken for"]
    return table(f"Classes, {part.label}", head, rows, numbers=(1, 2, 3))
