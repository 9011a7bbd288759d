"""Sentences of a report: what was proved, in words that anybody can repeat, and numbers rounded to the safe side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Literal

from cvxnn.architectures import GatedReLU
from cvxnn.display.report._facts import Bound, Facts
from cvxnn.interop.foreign_model import ForeignModel

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
    if facts.bound is not None:
        return _stored(facts, facts.bound)
    reason = "These are not the rows of the training, so that the certificate in the file does not apply."
    if isinstance(facts.model, ForeignModel):
        reason = "It was trained by another program, whose files hold no certificate."
    elif facts.trained_on:
        reason = (
            "The weights in the file do not give the objective that it claims, so that its certificate is not theirs."
        )
    return Verdict("open", "Nothing is proved about this network", (reason, _ask()))


def _proved(facts: Facts) -> Verdict:
    bound = facts.bound
    gap = math.inf if bound is None else bound.gap
    within = share(gap)
    limit = f"{_limit(facts, within)} This was proved anew for this report, from the weights and the data alone."
    if gap <= facts.model.tol:
        return Verdict("proved", f"Proved: {facts.kind.best}, to within {within}", (limit, *_limits(facts)))
    if facts.is_beaten:
        gain = share((facts.objective - facts.best_objective) / facts.objective, up=False)
        found = f"A network whose objective is lower by {gain} was found."
        return Verdict("beaten", "A better network exists", (found, limit, *_limits(facts)))
    undecided = "Whether a better network exists was not decided in the time given: none was found."
    return Verdict("open", f"Not decided: at most {within} could be gained", (limit, undecided, *_limits(facts)))


def _stored(facts: Facts, bound: Bound) -> Verdict:
    within, tight = share(bound.gap), bound.gap <= facts.model.tol
    told = (
        "So says the file, whose weights give the objective that it claims; the bound itself was not checked again. "
        + _ask()
    )
    if bound.whole:
        heading = f"At most {within} could be gained"
        if tight:
            best = facts.kind.best
            heading = f"{best[0].upper()}{best[1:]}, to within {within}, says the file"
        sentences = (_limit(facts, within), told, *_limits(facts))
        return Verdict("proved" if tight else "open", heading, sentences)
    overall = facts.global_bound
    known = f" All that is known of others: none is lower by more than {share(overall.gap)}." if overall else ""
    among = (
        "Each neuron is on for some rows and off for the others. Among networks whose neurons switch in the ways that "
        f"the search considered, none has an objective on these {rows(facts)} that is lower by more than {within}. "
        f"Neurons that switch in other ways might do better: a search is not a proof.{known}"
    )
    heading = f"Up to {within} could be gained among the networks considered"
    if tight and facts.was_cut_short:
        heading = f"Best of the networks considered so far, to within {within}; the search had not ended"
    elif tight:
        heading = f"Best of the networks considered, to within {within}; not proved for all networks"
    return Verdict("open", heading, (among, told, *_limits(facts)))


def _limit(facts: Facts, within: str) -> str:
    return (
        f"No network {facts.kind.among} can have an objective on these {rows(facts)} that is lower by more than "
        f"{within}."
    )


def _limits(facts: Facts) -> tuple[str, ...]:
    """What the proof does not say."""
    if isinstance(facts.model.architecture, GatedReLU):
        return ("Networks with other gates may have a lower objective: nothing is known of those.", _LIMITS)
    return (_LIMITS,)


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
