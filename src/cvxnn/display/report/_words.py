"""Sentences of a report: what was proved, in words that anybody can repeat, and numbers rounded to the safe side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Literal

from cvxnn.display.report._facts import Bound, Facts

__all__ = ["Verdict", "bound_figure", "figure", "gap_figure", "rows", "share", "verdict"]

_LIMITS = (
    "The proof is about the rows and the objective named here. It does not say that predictions of new rows are good: "
    "rows that were held out tell that."
)


@dataclass(frozen=True)
class Verdict:
    """Heading and sentences; ``mood`` says whether the network is proved best, beaten, or neither."""

    mood: Literal["proved", "open", "beaten"]
    heading: str
    sentences: tuple[str, ...]


def verdict(facts: Facts) -> Verdict:
    """Say what is known about the network, no more than that."""
    if facts.proofs:
        return _proved(facts)
    if facts.bound is None:
        reason = (
            "The weights in the file do not give the objective that it claims, so that its certificate is not theirs."
            if facts.trained_on
            else "These are not the rows of the training, so that the certificate in the file does not apply."
        )
        return Verdict("open", "Nothing is proved about this network", (reason, _ask()))
    return _stored(facts, facts.bound)


def _proved(facts: Facts) -> Verdict:
    bound = facts.bound
    gap = math.inf if bound is None else bound.gap
    within = share(gap)
    limit = (
        f"No network of this kind, however many neurons it has, can have an objective on these {rows(facts)} that is "
        f"lower by more than {within}. This was proved anew for this report, from the weights and the data alone."
    )
    if gap <= facts.model.tol:
        return Verdict("proved", f"Proved: the best possible network, to within {within}", (limit, _LIMITS))
    if any(proof.is_global is False for proof in facts.proofs):
        gain = share((facts.objective - facts.best_objective) / facts.objective, up=False)
        found = f"A network whose objective is lower by {gain} was found."
        return Verdict("beaten", "A better network exists", (found, limit, _LIMITS))
    undecided = "Whether a better network exists was not decided in the time given: none was found."
    return Verdict("open", f"Not decided: at most {within} could be gained", (limit, undecided, _LIMITS))


def _stored(facts: Facts, bound: Bound) -> Verdict:
    within, tight = share(bound.gap), bound.gap <= facts.model.tol
    told = (
        "So says the file, whose weights give the objective that it claims; the bound itself was not checked again. "
        + _ask()
    )
    if bound.scope == "global":
        limit = (
            f"No network of this kind, however many neurons it has, can have an objective on these {rows(facts)} "
            f"that is lower by more than {within}."
        )
        if tight:
            return Verdict(
                "proved", f"The best possible network, to within {within}, says the file", (limit, told, _LIMITS)
            )
        return Verdict("open", f"At most {within} could be gained", (limit, told, _LIMITS))
    overall = facts.global_bound
    known = f" All that is known of others: none is lower by more than {share(overall.gap)}." if overall else ""
    among = (
        "Each neuron is on for some rows and off for the others. Among networks whose neurons switch in the ways that "
        f"the search considered, none has an objective on these {rows(facts)} that is lower by more than {within}. "
        f"Neurons that switch in other ways might do better: a search is not a proof.{known}"
    )
    heading = f"Up to {within} could be gained among the networks considered"
    if tight:
        heading = f"Best of the networks considered, to within {within}; not proved for all networks"
    return Verdict("open", heading, (among, told, _LIMITS))


def _ask() -> str:
    return "The option --certify SECONDS of this command makes a proof."


def rows(facts: Facts) -> str:
    """Number of the judged rows in words."""
    count = len(facts.parts[0].X)
    return f"{count:,} {facts.parts[0].label}"


def share(value: float, *, up: bool = True) -> str:
    r"""Relative difference in words, rounded to the safe side: up as a limit, down as a gain.

    Examples
    --------
    >>> share(0.01231), share(0.01231, up=False), share(3e-9)
    ('1.3\xa0%', '1.2\xa0%', 'one part in 100,000,000')
    """
    if not math.isfinite(value):
        return "an unknown share"
    if value <= 0.0:
        return "nothing"
    if value < 1e-6 and up:
        power = 6
        while power < 16 and Decimal(value) <= Decimal(1).scaleb(-power - 1):
            power += 1
        return f"one part in {10**power:,}"
    percent = Decimal(value) * 100
    digits = Decimal(1).scaleb(percent.adjusted() - 1)
    cut = (percent // digits) * digits
    if up and cut < percent:
        cut += digits
    return f"{cut.normalize():f}\u00a0%"


def figure(value: float) -> str:
    """Number to nine digits, as the commands print it."""
    return f"{value:.9g}"


def gap_figure(value: float) -> str:
    """Relative gap to two digits, rounded up.

    Examples
    --------
    >>> gap_figure(0.68312), gap_figure(0.0)
    ('6.9e-01', '0.0e+00')
    """
    return f"{float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(Decimal(value))):.1e}"


def bound_figure(value: float) -> str:
    """Lower bound to nine digits, rounded down: what is shown is a bound, too.

    Examples
    --------
    >>> bound_figure(0.12345678999), bound_figure(2.0)
    ('0.123456789', '2')
    """
    return f"{float(Context(prec=9, rounding=ROUND_FLOOR).create_decimal(Decimal(value))):.9g}"
