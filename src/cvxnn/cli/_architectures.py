"""From the words of ``cvxnn fit`` to an architecture."""

from __future__ import annotations

from dataclasses import dataclass

from cvxnn.architectures import Architecture, BatchNormReLU, ParallelReLU, Polynomial, ReLU, SampledGatedReLU
from cvxnn.cli._common import CommandError

__all__ = ["ArchitectureOptions", "architecture_words"]

_OWN = {"gated": ("gates",), "polynomial": ("coefficients",), "parallel": ("depth", "sub_width", "penalty")}
_NEAR_RELU = (0.09, 0.5, 0.47)


@dataclass(frozen=True)
class ArchitectureOptions:
    """Options of the architecture, as typed; None where not given."""

    name: str
    gates: int | None
    coefficients: tuple[float, float, float] | None
    depth: int | None
    sub_width: int | None
    penalty: str | None

    def architecture(self) -> Architecture:
        """Architecture that the options mean.

        Raises
        ------
        CommandError
            If an option belongs to another architecture or is out of range.
        """
        for owner, names in _OWN.items():
            for name in names:
                if getattr(self, name) is not None and owner != self.name:
                    raise CommandError(f"--{name.replace('_', '-')} is for --architecture {owner}.")
        try:
            if self.name == "gated":
                return SampledGatedReLU() if self.gates is None else SampledGatedReLU(self.gates)
            if self.name == "polynomial":
                return Polynomial(*(self.coefficients or _NEAR_RELU))
            if self.name == "parallel":
                return ParallelReLU(self.depth or 3, self.sub_width or 2, self.penalty or "path")
        except ValueError as error:
            raise CommandError(str(error)) from error
        return BatchNormReLU() if self.name == "batch-norm" else ReLU()

    def require_fit(self, *, intercept: bool, max_width: int | None, certify: bool) -> None:
        """Refuse options of the command that the architecture does not have."""
        if self.name == "batch-norm" and not intercept:
            raise CommandError("--no-intercept is not for --architecture batch-norm, which has its own shift.")
        if max_width is not None and self.name not in ("relu", "batch-norm"):
            raise CommandError("--max-width is for --architecture relu and batch-norm.")
        if certify and self.name == "gated":
            raise CommandError("--certify is not for --architecture gated: no bound is known beyond the gates in use.")

    def require_one_output(self, n_outputs: int) -> None:
        """Refuse more outputs than the architecture has."""
        if self.name != "relu" and n_outputs > 1:
            raise CommandError(
                f"--architecture {self.name} has one output, for one column of numbers or two classes; "
                f"this target needs {n_outputs}."
            )


def architecture_words(architecture: Architecture) -> str:
    """Name of an architecture for a report."""
    return "ReLU" if isinstance(architecture, ReLU) else repr(architecture)
