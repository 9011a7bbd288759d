"""Sections on the network: its neurons and the inputs that they use, and what would improve it."""

from __future__ import annotations

import numpy as np

from cvxnn.architectures import GatedReLU
from cvxnn.display.report._facts import Facts
from cvxnn.display.report._fit import score_word, short
from cvxnn.display.report._markup import Markup, name, prose, table, tag
from cvxnn.display.report._svg import Axis, columns, legend
from cvxnn.display.report._units import Neuron, strongest
from cvxnn.display.report._words import figure, share
from cvxnn.interop.model import Model
from cvxnn.networks import ReLUNetwork
from cvxnn.solution import Status

__all__ = ["improvement_section", "network_section"]

_MOST_NEURONS = 30
_MOST_COLUMNS = 60
_MOST_INPUTS = 8
_NAMED = 3
_OVERFIT = 0.05
"""Excess of the training score over the held-out one that is worth a hint."""


def network_section(facts: Facts) -> Markup:
    """Neurons by size, and the inputs."""
    heading = tag("h2", "The network", id="network")
    if not facts.neurons:
        words = "The network has no neurons: it predicts 0 (in its own units) for every row."
        return tag("section", heading, tag("p", words), aria_labelledby="network")
    width, kind = len(facts.neurons), facts.kind
    words = (
        f"The network has {_count(width, kind.unit)}. {kind.works} {kind.size}"
        + (" Of several output weights the table has the largest." if len(facts.neurons[0].a) > 1 else "")
        + _bias_of_the_output(facts)
    )
    shown = facts.neurons[:_MOST_NEURONS]
    told = f", the {len(shown)} largest of {width}" if len(shown) < width else ""
    switches = ["On for"] if kind.switches else []
    head = ["No.", "Output weight", "Size", *switches, "Strongest inputs"]
    rows = [_neuron_row(facts, position, neuron) for position, neuron in enumerate(shown, start=1)]
    return tag(
        "section",
        heading,
        tag("p", words),
        tag("div", _sizes(facts), _inputs(facts), class_="row"),
        table(f"{kind.unit.capitalize()}s{told}", head, rows, numbers=(0, 2, *([3] if switches else []))),
        aria_labelledby="network",
    )


def _bias_of_the_output(facts: Facts) -> str:
    network = facts.model.network
    bias = network.output_bias if isinstance(network, ReLUNetwork) else 0.0
    return f" A bias of {bias:+.4g} is added to the output of every row." if bias != 0.0 else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _neuron_row(facts: Facts, position: int, neuron: Neuron) -> list[str]:
    active = [] if neuron.active is None else [f"{neuron.active:.0%}"]
    return [str(position), _output(facts, neuron), short(neuron.mass), *active, _inputs_of(facts, neuron)]


def _output(facts: Facts, neuron: Neuron) -> Markup:
    """Output weight; with several outputs the largest, and which it is."""
    labels = facts.model.target.classes if facts.model.target.kind == "multiclass" else facts.model.target.names
    if len(neuron.a) == 1:
        return tag("span", f"{neuron.a[0]:+.4g}")
    largest = int(np.argmax(np.abs(neuron.a)))
    return tag("span", f"{neuron.a[largest]:+.4g} for ", name(labels[largest], 30))


def _inputs_of(facts: Facts, neuron: Neuron, end: str = "") -> Markup:
    inputs = facts.model.preprocessing.inputs
    # Names may end in a number: a sign, or else a colon, parts the weight from them.
    before, form = (" ", "+.3g") if _signed(facts) else (": ", ".3g")
    pairs: list[tuple[str, float]] = [
        (name(inputs[position], 30), neuron.w[position]) for position in strongest(neuron, _NAMED, len(inputs))
    ]
    if len(neuron.w) > len(inputs):
        pairs.append(("bias", neuron.w[-1]))
    if not pairs:
        return tag("span", f"none{end}")
    ends = [","] * (len(pairs) - 1) + [end]
    # Lines break between inputs before they break within one, and never in a number.
    items = [
        tag("span", label, before, tag("span", f"{weight:{form}}{after}", class_="value"), class_="item")
        for (label, weight), after in zip(pairs, ends, strict=True)
    ]
    return tag("span", *(part for item in items for part in (" ", item)))


def _signed(facts: Facts) -> bool:
    """Whether input weights have a sign: those of sub-networks are lengths."""
    return facts.kind.unit == "neuron"


def _sizes(facts: Facts) -> Markup:
    shown = facts.neurons[:_MOST_COLUMNS]
    unit, (raises, lowers) = facts.kind.unit, facts.kind.signs
    single = len(shown[0].a) == 1 and raises != ""
    styles = ["negative" if single and neuron.a[0] < 0 else "positive" for neuron in shown]
    heights = np.array([neuron.mass for neuron in shown])
    total = sum(neuron.mass for neuron in facts.neurons)
    half = 1 + int(np.searchsorted(np.cumsum([neuron.mass for neuron in facts.neurons]), 0.5 * total))
    holders = f"largest {unit} holds" if half == 1 else f"{half} largest {unit}s hold"
    described = (
        f"Columns of the sizes of {_count(len(shown), unit)} by falling size, from {short(heights[0])} to "
        f"{short(heights[-1])}; the {holders} half of the total {short(total)}."
    )
    picture = columns(
        "sizes",
        f"Sizes of the {unit}s",
        described,
        Axis.around([0.5, len(shown) + 0.5], unit, whole=True, tight=True),
        Axis.around(heights, "size", zero=True),
        edges=np.arange(0.5, len(shown) + 1.0),
        heights=heights,
        styles=styles,
    )
    entries = [(raises, "positive", "column"), (lowers, "negative", "column")]
    told = f" The {len(shown)} largest of {len(facts.neurons)} are drawn." if len(shown) < len(facts.neurons) else ""
    caption = tag("figcaption", f"The {holders} half of the total size.{told}")
    return tag("figure", picture, *([legend(entries)] if single else []), caption)


def _inputs(facts: Facts) -> Markup:
    shares, inputs = facts.input_shares(), facts.model.preprocessing.inputs
    order = np.argsort(-shares, kind="stable")[:_MOST_INPUTS]
    rows = [[name(inputs[position]), f"{shares[position]:.1%}"] for position in order]
    told = f", the {len(order)} most used of {len(inputs)}" if len(order) < len(inputs) else ""
    unit = (
        "Inputs are standardised, so that the shares can be compared."
        if facts.model.preprocessing.standardized
        else "Inputs are in the units of the table; those in small units have large weights."
    )
    words = (
        f"Share of each input in the weights of the network. {unit} "
        "A share tells what the network uses, not what causes what."
    )
    return tag("div", table(f"Inputs{told}", ["Input", "Share"], rows, numbers=(1,)), tag("p", words, class_="quiet"))


def improvement_section(facts: Facts, advice: str | None) -> Markup:
    """What would make the network better, as far as that is known; ``advice`` belongs to the status in the file."""
    items = [*_from_proofs(facts), *_from_status(facts, advice), *_from_scores(facts)]
    if isinstance(facts.model.architecture, GatedReLU):
        words = "Other gates may do better: another --seed draws others, and more of them (--gates) can only help."
        items.append(prose("li", words))
    if not facts.neurons:
        smaller = "a smaller weight decay" + (" (--alpha)" if isinstance(facts.model, Model) else "")
        items.append(prose("li", f"The network is empty; {smaller} allows more."))
    if not items:
        looked = "No better network was found in the time given" if facts.proofs else "Nothing is known yet"
        items.append(prose("li", f"{looked}: the option --certify with more seconds looks further."))
    heading = tag("h2", "What would improve it", id="improve")
    return tag("section", heading, tag("ul", *items), aria_labelledby="improve")


def _from_status(facts: Facts, advice: str | None) -> list[Markup]:
    if not isinstance(facts.model, Model):
        return []
    status = facts.model.certificate.status
    ended = status in (Status.GLOBAL_OPTIMUM.value, Status.PATTERNS_OPTIMUM.value, Status.UNPROVED.value)
    if advice is not None and facts.fits_file and not ended:
        return [prose("li", f"The training ended with “{status}”. {advice}")]
    if not ended or facts.proofs or _closed(facts):
        return []
    words = (
        "The training ended without a way to improve in sight, but without a proof for all networks: the option "
        "--certify SECONDS of this command spends time on both."
    )
    return [prose("li", words)]


def _from_proofs(facts: Facts) -> list[Markup]:
    items = []
    bound = facts.global_bound
    if bound is not None and _closed(facts):
        items.append(
            prose(
                "li",
                f"Longer training or more {facts.kind.unit}s cannot help: no network {facts.kind.among} has an "
                f"objective that is lower by more than {share(bound.gap)}. Only another objective (weight decay, "
                "loss) or other data (rows, columns) can.",
            )
        )
        return items
    found = facts.escape()
    if found is not None:
        position, neuron, objective = found
        classes = facts.model.target.classes
        whose = [" for the class ", name(classes[position])] if len(facts.proofs) > 1 else []
        change = f" lowers the objective from {figure(facts.objective)} to {figure(objective)}: output weight "
        parts = [_output(facts, neuron), "; inputs", _inputs_of(facts, neuron, ".")]
        items.append(tag("li", f"Adding one {facts.kind.unit}", *whose, change, *parts))
    if facts.best_objective < facts.objective:
        again = "training again with a smaller --tol or a longer --time-limit reaches it or a better one."
        if not isinstance(facts.model, Model):
            again = "the training stopped short of it, or had too few neurons."
        met = figure(facts.best_objective)
        items.append(prose("li", f"A network of objective {met} was found while proving: {again}"))
    return items


def _closed(facts: Facts) -> bool:
    bound = facts.global_bound
    return bound is not None and bound.gap <= facts.model.tol


def _from_scores(facts: Facts) -> list[Markup]:
    scores = facts.scores()
    if len(scores) < 2 or scores[0] is None or scores[1] is None or scores[0] - scores[1] <= _OVERFIT:
        return []
    return [
        prose(
            "li",
            f"The {score_word(facts.model.target)} is {scores[0]:.4f} on the training rows but {scores[1]:.4f} on the "
            "held-out rows: more rows, or a larger weight decay (--alpha), may bring them closer.",
        )
    ]
