"""The page of a report, section by section."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

import numpy as np

from cvxnn import __version__
from cvxnn.architectures import BatchNormReLU, GatedReLU
from cvxnn.display.report._course import course_section
from cvxnn.display.report._facts import Facts
from cvxnn.display.report._fit import fit_section, score_word, shown_score
from cvxnn.display.report._markup import Markup, name, page, prose, shown, table, tag
from cvxnn.display.report._network import improvement_section, network_section
from cvxnn.display.report._svg import Axis, Series, curves, legend
from cvxnn.display.report._words import bound_figure, figure, gap_figure, share, verdict
from cvxnn.interop.foreign_model import ForeignModel
from cvxnn.interop.model import Model

__all__ = ["report_page"]

_LOSSES = {
    "squared": "half the squared difference of predicted and true value",
    "huber": "the Huber loss: half the squared difference where it is small, linear beyond",
    "logistic": "the logistic loss of two classes",
    "squared_hinge": "the squared hinge loss of classes",
    "softmax": "the softmax loss (cross-entropy) of classes",
}
_MOST_LISTED = 12
_CONTENTS = (
    ("training", "What was trained"),
    ("proof", "How good it can get"),
    ("course", "How the training went"),
    ("fit", "How well it fits"),
    ("network", "The network"),
    ("improve", "What would improve it"),
    ("words", "Words"),
)


def report_page(facts: Facts, *, model_name: str, data_name: str, advice: str | None = None) -> str:
    """Report as one HTML document without scripts, and without anything from outside of it.

    Parameters
    ----------
    facts : Facts
    model_name, data_name : str
        Names of the files, for the headings.
    advice : str, optional
        What the status in the file advises.

    Returns
    -------
    str
        To be written as UTF-8.
    """
    style = resources.files("cvxnn.display.report").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Should a text of strangers ever pass for markup, the browser runs and fetches nothing all the same.
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, title in _CONTENTS]
    main = tag(
        "main",
        _summary(facts),
        _training(facts, data_name),
        _proof(facts),
        course_section(facts),
        fit_section(facts),
        network_section(facts),
        improvement_section(facts, advice),
        _words(facts),
    )
    header = tag(
        "header",
        tag("h1", "Report on a trained network"),
        tag("p", name(model_name), ", judged on ", name(data_name), class_="quiet"),
        tag("nav", tag("ul", *links), aria_label="Contents"),
    )
    return page(f"Report on {shown(model_name)}", style, policy, header, main, _footer(facts))


def _summary(facts: Facts) -> Markup:
    found = verdict(facts)
    scores = [
        (f"{score_word(facts.model.target)}, {part.label}", shown_score(score))
        for part, score in zip(facts.parts, facts.scores(), strict=True)
    ]
    overall = facts.global_bound
    gap = "not known" if overall is None else share(overall.gap)
    pairs = [*scores, ("could be gained, at most", gap), (f"{facts.kind.unit}s", f"{len(facts.neurons):,}")]
    figures = [tag("div", tag("dt", label), tag("dd", value)) for label, value in pairs]
    box = [tag("h2", found.heading, id="verdict"), *(prose("p", sentence) for sentence in found.sentences)]
    section = tag("section", *box, class_=f"verdict {found.mood}", aria_labelledby="verdict")
    return tag("div", section, tag("dl", *figures, class_="figures"))


def _training(facts: Facts, data_name: str) -> Markup:
    rows = _settings(facts.model, facts, data_name) if isinstance(facts.model, Model) else _foreign(facts, data_name)
    words = (
        "The network was trained by minimising an objective: how far the predictions are from the truth (the misfit), "
        "plus a price on large weights (the weight decay), which keeps the network simple."
    )
    if not isinstance(facts.model, Model):
        words += " The options of this command say which objective that was; the file does not."
    heading = tag("h2", "What was trained", id="training")
    return tag("section", heading, tag("p", words), table("Settings", [], rows), aria_labelledby="training")


def _settings(model: Model, facts: Facts, data_name: str) -> list[list[str]]:
    held_out = model.n_rows - model.n_train
    used = [["Rows", f"{model.n_train:,} for training, {held_out:,} held out"]]
    if not facts.trained_on:
        used += [["Judged on", f"all {len(facts.parts[0].X):,} rows of other data, with the same alpha"]]
    inputs = f"{len(model.preprocessing.inputs)} from {len(model.preprocessing.features)} columns"
    inputs += ", standardised" if model.preprocessing.standardized else ", in the units of the table"
    if isinstance(model.architecture, BatchNormReLU):
        inputs += "; batch norm has its own shift"
    else:
        inputs += ", and a column of ones for the biases" if model.preprocessing.intercept else ", no biases"
    return [
        ["Network", _network(facts)],
        ["Data", name(data_name)],
        *used,
        *_predicted(facts),
        ["Columns", _listed(model.preprocessing.names)],
        ["Inputs", inputs],
        ["Loss", _loss(facts)],
        ["Weight decay", f"alpha {model.alpha:g} for the mean loss: beta {facts.beta:g} for the sum over these rows"],
        ["Seed", f"{model.seed} (the same seed, data and settings give the same network)"],
    ]


def _foreign(facts: Facts, data_name: str) -> list[list[str]]:
    """Settings of a network of another program."""
    model = facts.model
    assert isinstance(model, ForeignModel)
    training = model.judged.training
    biases = []
    if model.judged.column is not None:
        biases.append(f"hidden biases {training.hidden_bias_decay:g}")
    if model.judged.problem.output_bias_decay is not None:
        biases.append(f"output bias {training.output_bias_decay:g}")
    decay = f"{training.weight_decay:g}, in the units of the training" + (f"; {', '.join(biases)}" if biases else "")
    several = len(model.target.names) > 1 or model.loss == "softmax"
    summed = {"mean": "mean over the rows", "sum": "sum over the rows"}[model.reduction]
    rows = [
        ["Network", f"{_network(facts)}, made by another program"],
        ["Data", name(data_name)],
        ["Rows", f"{len(facts.parts[0].X):,}, all of the table; which of them trained is not known"],
        *_predicted(facts),
        ["Columns", _listed(model.preprocessing.names)],
        [
            "Inputs",
            "the columns as they stand in the table" + (", and biases" if model.judged.column is not None else ""),
        ],
        ["Loss", f"{_loss(facts)} ({model.loss_word}, {summed})"],
        ["Weight decay", decay],
    ]
    if not model.judged.exact:
        reason = "of several outputs, which loosen the bound" if several else "free, so there may be no best network"
        rows.append(["Biases", f"{reason}; the bound holds all the same"])
    return rows


def _network(facts: Facts) -> str:
    return f"{facts.kind.network}, {len(facts.neurons):,} {facts.kind.unit}s, outputs: {facts.model.target.n_outputs}"


def _predicted(facts: Facts) -> list[list[str]]:
    target = facts.model.target
    classes = [["Classes", _listed(target.classes)]] if target.classes else []
    return [["To predict", _listed(target.names)], *classes]


def _loss(facts: Facts) -> str:
    delta = f" {facts.model.huber_delta:g}" if facts.model.huber_delta is not None else ""
    return f"{_LOSSES.get(facts.model.loss, facts.model.loss)}{delta}"


def _listed(names: tuple[str, ...]) -> Markup:
    parts: list[str] = []
    for item in names[:_MOST_LISTED]:
        parts += [name(item), ", "]
    more = len(names) - _MOST_LISTED
    return tag("span", *parts, f"and {more} more") if more > 0 else tag("span", *parts[:-1])


def _proof(facts: Facts) -> Markup:
    bound, overall = facts.bound, facts.global_bound
    rows = [
        ["Objective", figure(facts.objective)],
        ["Misfit", figure(facts.misfit)],
        ["Price of the weights", figure(facts.decay)],
    ]
    if bound is not None and overall is not None:
        origin = "proved for this report" if bound.source == "proved" else "as the file says"
        if not bound.whole:
            rows.append(["Bound among the patterns used", f"{bound_figure(bound.lower_bound)} ({origin})"])
        rows.append([_bound_label(facts), f"{bound_figure(overall.lower_bound)} ({origin})"])
        rows.append(["Relative gap to it", f"{gap_figure(overall.gap)} (tolerance {facts.model.tol:g})"])
    if facts.proofs:
        rows.append(["Best objective met", figure(facts.best_objective)])
        methods = sorted({proof.method for proof in facts.proofs})
        rows.append(["Method of the bound", ", ".join(methods)])
        if any(proof.interrupted for proof in facts.proofs):
            rows.append(["Interrupted", "yes; the bounds hold all the same"])
    words = (
        "No training program can push the objective below the bound: it follows from the data by arithmetic, with "
        "rounding errors counted. What lies between the objective and the bound is all that could be gained."
    )
    heading = tag("h2", "How good it can get", id="proof")
    body = tag("div", tag("div", table("Figures", [], rows)), _way_down(facts), class_="row")
    return tag("section", heading, tag("p", words), body, aria_labelledby="proof")


def _way_down(facts: Facts) -> Markup:
    x, objectives = facts.way_down()
    ends = "0: no neurons; 1: this network" + ("; 2: a better one" if x[-1] > 1.0 else "")
    lines = [Series("objective", "network", x, objectives)]
    overall = facts.global_bound
    if overall is not None:
        lines.append(Series(_bound_label(facts).lower(), "bound", x[[0, -1]], np.full(2, overall.lower_bound)))
    described = (
        f"The objective goes from {figure(objectives[0])} without neurons to {figure(facts.objective)} at this network"
        + (f" and to {figure(objectives[-1])} at a better one" if x[-1] > 1.0 else "")
        + (f"; the {_bound_label(facts).lower()} is {bound_figure(overall.lower_bound)}." if overall else ".")
    )
    picture = curves(
        "way",
        "The way down from no neurons to this network",
        described,
        Axis.around(x, ends, whole=True),
        Axis.around(np.concatenate([line.y for line in lines]), "objective", zero=True),
        lines,
    )
    caption = (
        "The way down from no neurons to this network"
        + (" and on to a better one" if x[-1] > 1.0 else "")
        + ": the outputs are mixed in proportion. Seen like this there are no humps: each piece is part of a bowl."
    )
    entries = [(line.label, line.style, "curve") for line in lines]
    return tag("figure", picture, legend(entries), tag("figcaption", caption))


def _bound_label(facts: Facts) -> str:
    """Name of the bound for every network of the kind."""
    gated = isinstance(facts.model.architecture, GatedReLU)
    return "Bound for these gates" if gated else "Bound for every network"


def _words(facts: Facts) -> Markup:
    foreign = isinstance(facts.model, ForeignModel)
    price = "Half of the weight decay times the sum of the squares of all weights." if foreign else facts.kind.price
    on_and_off = " and is off for the others" if facts.kind.switches else ""
    scales = (
        ()
        if foreign
        else (("Alpha, beta", "The strength of the weight decay for the mean over the rows, and for their sum."),)
    )
    meanings = (
        (
            "Objective",
            "Misfit over all rows plus the price of the weights. Training lowers it.",
        ),
        ("Weight decay", f"The price of the weights. {price}"),
        (
            facts.kind.unit.capitalize(),
            f"A part of the network that adds to the output of {'some' if on_and_off else 'all'} rows{on_and_off}.",
        ),
        ("Lower bound", "A number that the objective of no such network can be below."),
        ("Gap", "How far the objective is above the bound, as a share of the objective."),
        ("Held-out rows", "Rows that were not used in training, and so tell how the network does on new ones."),
        *scales,
    )
    entries = [part for word, meaning in meanings for part in (tag("dt", word), tag("dd", meaning))]
    return tag("section", tag("h2", "Words", id="words"), tag("dl", *entries), aria_labelledby="words")


def _footer(facts: Facts) -> Markup:
    model = facts.model
    own = f"; the model by cvxnn {shown(model.version)}" if isinstance(model, Model) else ""
    made = f"Made by cvxnn {__version__}{own}. This page loads nothing from a network and runs no scripts."
    if not isinstance(model, Model):
        return tag("footer", tag("p", made))
    trace = f"SHA-256 of the columns used in training: {shown(model.table_hash, 80)}"
    return tag("footer", tag("p", made), tag("p", trace))
