"""What a report says of each architecture: names, what a neuron does, and what the weights cost."""

from __future__ import annotations

from dataclasses import dataclass

from cvxnn.architectures import Architecture, BatchNormReLU, GatedReLU, ParallelReLU, Polynomial

__all__ = ["Kind", "kind_of"]


@dataclass(frozen=True)
class Kind:
    """Words on an architecture.

    Attributes
    ----------
    network : str
        What it is, for the settings.
    unit : str
        What it is the sum of: "neuron" or "sub-network".
    among : str
        Which networks a bound of the architecture is about, in "No network ... can have".
    best : str
        What a network is that no such network beats.
    works : str
        What a unit does.
    size : str
        What the size of a unit is, and how the price depends on it.
    price : str
        What the price of the weights is.
    switches : bool
        Whether units are off for some rows.
    signs : (str, str)
        What positive and negative output weights do; empty where they do not differ.
    """

    network: str
    unit: str = "neuron"
    among: str = "of this kind, however many neurons it has,"
    best: str = "the best possible network"
    works: str = (
        "Each adds its output weight times a weighted sum of the inputs, where that sum is positive, and is off "
        "elsewhere."
    )
    size: str = (
        "Its size is the norm of its input weights times that of its output weight; the price of the weights grows "
        "with the sum of the sizes."
    )
    price: str = "Half of beta times the sum of the squares of all weights."
    switches: bool = True
    signs: tuple[str, str] = ("raises the output", "lowers the output")


def kind_of(architecture: Architecture) -> Kind:
    """Words on an architecture.

    Examples
    --------
    >>> kind_of(Polynomial(1, 0, 0)).network
    'two layers, activation t² of the weighted sum t'
    """
    if isinstance(architecture, GatedReLU):
        return _gated(len(architecture))
    if isinstance(architecture, BatchNormReLU):
        return _BATCH_NORM
    if isinstance(architecture, Polynomial):
        return _polynomial(architecture)
    if isinstance(architecture, ParallelReLU):
        return _parallel(architecture)
    return Kind("two layers, ReLU")


def _gated(gates: int) -> Kind:
    return Kind(
        f"two layers, gated ReLU, {gates:,} gates drawn before the training",
        among="with these gates, however many neurons it has,",
        best="the best network with these gates",
        works=(
            "Each adds its output weight times a weighted sum of the inputs on the rows for which its gate is open, "
            "and is off elsewhere. The gate was drawn before the training and does not depend on the weights."
        ),
        price="Half of beta times the sum of the squares of all weights but those of the gates, which are free.",
        signs=("", ""),
    )


_BATCH_NORM = Kind(
    "two layers, ReLU with batch norm",
    works=(
        "Each brings a weighted sum of the inputs to mean 0 and one size over the rows of the training, scales and "
        "shifts it, and adds its output weight times the result where that is positive; it is off elsewhere. The "
        "input weights below have all of this multiplied in."
    ),
    size=(
        "Its size is the norm of its scale and shift times its output weight; the price of the weights grows with the "
        "sum of the sizes."
    ),
    price=(
        "Half of beta times the sum of the squares of the scales, the shifts and the output weights; the input weights "
        "are free, for batch norm undoes their length."
    ),
)


def _polynomial(architecture: Polynomial) -> Kind:
    terms = ((architecture.a, "t²"), (architecture.b, "t"), (architecture.c, ""))
    formula = " + ".join(_term(value, power) for value, power in terms if value != 0.0).replace("+ -", "- ")
    return Kind(
        f"two layers, activation {formula} of the weighted sum t",
        works=(
            f"Each adds its output weight times {formula}, where t is its weighted sum of the inputs. It "
            "does so for every row: no neuron is ever off."
        ),
        size="Its input weights have norm 1 and its size is that of its output weight; the price is beta times the sum "
        "of the sizes.",
        price="Beta times the sum of the sizes of the output weights; the input weights of each neuron have norm 1.",
        switches=False,
        signs=("positive output weight", "negative output weight"),
    )


def _term(value: float, power: str) -> str:
    if not power:
        return f"{value:g}"
    return power if value == 1.0 else f"{value:g} {power}"


def _parallel(architecture: ParallelReLU) -> Kind:
    norm = "the root of the sum of the squares" if architecture.penalty == "path" else "the sum"
    return Kind(
        f"parallel sub-networks of {architecture.depth} layers, {architecture.width} neurons below each neuron",
        unit="sub-network",
        among="of this kind, however many sub-networks it has,",
        works=(
            "Each is a small ReLU network that ends in one neuron, and adds its output weight times the value of that "
            "neuron, which is off for the rows where that value is 0. The weights of an input are joined over all "
            "paths to that neuron as the root of their squares, so that they have no sign."
        ),
        size=(
            f"Its size is {norm} over its paths, each the product of the weights on it; the price of the weights is "
            "beta times the sum of the sizes."
        ),
        price=f"Beta times the sum of the sizes of the sub-networks, each {norm} over its paths.",
    )
