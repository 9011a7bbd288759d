"""Cases of the benchmark: what is solved, by which methods, within which time."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.data import keel_names

__all__ = ["CORE", "METHODS", "REFERENCE", "SUITES", "Case", "Method", "cases", "methods"]

REFERENCE = "cvxnn 1e-6"
"""Method whose objective counts as the optimum, unless it is planted, when a peer may stop."""

SUITES = ("gated", "fixed", "free")


@dataclass(frozen=True)
class Case:
    """One program: a suite, a table, a loss, ``beta = lam * n``, and for listed patterns their number.

    Attributes
    ----------
    suite : str
        "gated" (fixed gates), "fixed" (ReLU networks confined to listed patterns) or "free" (ReLU networks).
    table : str
        Name for :func:`benchmarks.data.load`.
    lam : float
        beta over the number of samples; 0 takes the planted one.
    P : int
        Number of gates or patterns; 0 in the free suite.
    loss : str
    holdout : float
        Share of test rows.
    weighted : bool
        Whether the samples have weights: exponential with mean one, a tenth of them zero.
    """

    suite: str
    table: str
    lam: float
    P: int = 0
    loss: str = "squared"
    holdout: float = 0.0
    weighted: bool = False

    @property
    def key(self) -> str:
        """Text that names the case in files, and that ``--cases`` searches."""
        parts = [self.table, f"P={self.P}" if self.P else "", f"lam={self.lam:g}" if self.lam else "planted", self.loss]
        parts += [f"holdout={self.holdout:g}" if self.holdout else "", "weighted" if self.weighted else ""]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Method:
    """A solver with its settings.

    Attributes
    ----------
    name : str
    suites : tuple of str
    module, function : str
        Where it is, in ``benchmarks.peers``.
    options : dict
        Fixed settings.
    grid : tuple of dict
        Settings among which the best final objective on seed 0 decides; empty: nothing to tune.
    losses : tuple of str or None
        Losses it knows; None for all.
    """

    name: str
    suites: tuple[str, ...]
    module: str
    function: str
    options: tuple[tuple[str, object], ...] = ()
    grid: tuple[tuple[tuple[str, object], ...], ...] = ()
    losses: tuple[str, ...] | None = None


def _rates(*values: float) -> tuple[tuple[tuple[str, object], ...], ...]:
    return tuple((("lr", value),) for value in values)


_DTYPES = ((("dtype", "float32"),), (("dtype", "float64"),))
_SQUARED = ("squared",)
_NETWORKS = ("squared", "logistic")


def _torch(name: str, function: str, width: int, grid: tuple, **options: object) -> Method:
    return Method(name, ("free",), "torch_networks", function, (("width", width), *options.items()), grid)


def _sklearn(name: str, solver: str) -> Method:
    options = (("solver", solver), ("width", 400))
    return Method(name, ("free",), "sklearn_mlp", "run", options, (), _NETWORKS)


METHODS: tuple[Method, ...] = (
    Method("cvxnn", ("gated", "fixed"), "cvxnn_solve", "run", (("tol", 1e-4),)),
    # Its measure is the objective: the default tolerance.
    Method("cvxnn", ("free",), "cvxnn_solve", "run", (("tol", 1e-6),)),
    Method(REFERENCE, ("gated", "fixed"), "cvxnn_solve", "run", (("tol", 1e-6),)),
    Method("pyscnn R-FISTA", ("gated",), "pyscnn_gated", "run", losses=_SQUARED),
    Method("pyscnn AL", ("fixed",), "pyscnn_al", "run", losses=_SQUARED),
    Method("Clarabel", ("gated", "fixed"), "cvxpy_conic", "run", (("solver", "CLARABEL"),)),
    Method("SCS", ("gated", "fixed"), "cvxpy_conic", "run", (("solver", "SCS"),)),
    _torch("Adam 400", "adam", 400, _rates(3e-3, 1e-2, 3e-2)),
    _torch("L-BFGS 400", "lbfgs", 400, _DTYPES),
    _torch("Adam 100", "adam", 100, _rates(3e-3, 1e-2, 3e-2)),
    _torch("L-BFGS 100", "lbfgs", 100, _DTYPES),
    _torch("Adam 400 batches", "adam", 400, _rates(1e-3, 3e-3, 1e-2), batch=256),
    _torch("SGD 400", "sgd", 400, _rates(1e-3, 1e-2, 1e-1)),
    _sklearn("MLP lbfgs 400", "lbfgs"),
    _sklearn("MLP adam 400", "adam"),
)

CORE = ("cvxnn", REFERENCE, "pyscnn R-FISTA", "pyscnn AL", "Clarabel", "SCS", "Adam 400", "L-BFGS 400")
"""Methods that run unless others are asked for: the peers that the figures of the README are about."""

_LARGEST_FREE = 5000
_LARGE_KEEL = {"letter", "magic", "marketing", "mushroom", "optdigits", "penbased", "phoneme", "ring", "satimage"}
_LARGE_KEEL |= {"texture", "twonorm", "banana"}


def methods(suite: str, names: list[str] | None, loss: str) -> list[Method]:
    """Methods of a suite that know the loss: the core ones, those named (case and blanks ignored), or ``all``."""
    known = [m for m in METHODS if suite in m.suites and (m.losses is None or loss in m.losses)]
    if not names:
        return [m for m in known if m.name in CORE]
    if names == ["all"]:
        return known
    wanted = {_plain(name): name for name in names}
    there = {_plain(m.name): m.name for m in METHODS}
    unknown = [name for plain, name in wanted.items() if plain not in there]
    if unknown:
        raise ValueError(f"methods must be among {', '.join(there.values())}; got {', '.join(unknown)}.")
    return [m for m in known if _plain(m.name) in wanted]


def cases(suite: str, *, quick: bool = False, every: bool = False) -> list[Case]:
    """Cases of a suite: few small ones (``quick``), the usual ones, or every table that fits (``every``)."""
    return {"gated": _gated, "fixed": _fixed, "free": _free}[suite](quick, every)


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "")


def _gated(quick: bool, every: bool) -> list[Case]:
    if quick:
        return [Case("gated", "planted-gated-500x10x100", 0.0, 100), Case("gated", "diabetes", 1e-1, 100)]
    found = [Case("gated", table, lam, 500) for table in ("diabetes", "cancer", "digits") for lam in (1e-1, 1e-2)]
    found += [Case("gated", "synthetic-20000x30", lam, P) for P in (100, 500) for lam in (1e-1, 1e-2)]
    found += [Case("gated", "planted-gated-2000x20x200", 0.0, 200)]
    if every:
        found += [Case("gated", f"keel-{name}", 1e-2, 500) for name in keel_names()]
        found += [Case("gated", table, 1e-3, 500) for table in ("diabetes", "cancer", "digits")]
        found += [Case("gated", "cancer", 1e-2, 500, loss) for loss in ("logistic", "huber", "squared_hinge")]
    return found


def _fixed(quick: bool, every: bool) -> list[Case]:
    if quick:
        return [Case("fixed", "iris", 1e-2, 20)]
    found = [Case("fixed", table, 1e-2, P) for table in ("diabetes", "cancer") for P in (50, 100)]
    if every:
        found += [Case("fixed", table, lam, 50) for table in ("diabetes", "cancer") for lam in (1e-1, 1e-3)]
        found += [Case("fixed", "digits", 1e-2, 25), Case("fixed", "cancer", 1e-2, 50, "logistic")]
        small = [name for name in keel_names() if name not in _LARGE_KEEL | {"spambase", "splice", "chess", "segment"}]
        found += [Case("fixed", f"keel-{name}", 1e-2, 50) for name in small]
    return found


def _free(quick: bool, every: bool) -> list[Case]:
    share = 0.2
    if quick:
        return [
            Case("free", "planted-relu-240x60", 0.0),
            Case("free", "curve-200", 1e-2, holdout=share),
            Case("free", "iris", 1e-2, holdout=share),
        ]
    tables = ["diabetes", "cancer", "digits", "keel-spambase", "keel-phoneme"]
    if every:
        tables += ["wine", "iris", "mnist", "curve-500"]
        tables += [f"keel-{name}" for name in keel_names() if f"keel-{name}" not in tables]
    found = [Case("free", table, lam, holdout=share) for table in tables for lam in (1e-2, 1e-3)]
    if every:
        found += [Case("free", table, 1e-1, holdout=share) for table in tables]
        found += [Case("free", "cancer", lam, 0, "logistic", share) for lam in (1e-2, 1e-3)]
    return [*found, Case("free", "planted-relu-240x60", 0.0)]
