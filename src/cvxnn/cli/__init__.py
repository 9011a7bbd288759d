"""Command line: ``cvxnn fit | predict | certify | report | landscape | info``.

Exit codes: 0 done, 1 not converged, not certified or interrupted (what was found is written all the same), 2 wrong
usage or unusable data. Messages go to stderr, results to stdout.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cvxnn.cli._foreign import ForeignOptions

__all__ = ["app", "main"]

app = typer.Typer(
    name="cvxnn",
    help="Train two-layer ReLU networks to a certified optimum, use them, and prove how good they are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class LossName(StrEnum):
    """Words of --loss."""

    AUTO = "auto"
    SQUARED = "squared"
    HUBER = "huber"
    LOGISTIC = "logistic"
    SQUARED_HINGE = "squared_hinge"
    SOFTMAX = "softmax"


class ArchitectureName(StrEnum):
    """Words of --architecture."""

    RELU = "relu"
    GATED = "gated"
    BATCH_NORM = "batch-norm"
    POLYNOMIAL = "polynomial"
    PARALLEL = "parallel"


class Penalty(StrEnum):
    """Words of --penalty."""

    PATH = "path"
    L21 = "l21"


class ForeignLoss(StrEnum):
    """Words of --loss for networks of other programs."""

    MSE = "mse"
    SQUARED = "squared"
    HUBER = "huber"
    SMOOTH_L1 = "smooth_l1"
    BCE_WITH_LOGITS = "bce_with_logits"
    SOFT_MARGIN = "soft_margin"
    LOGISTIC = "logistic"
    SQUARED_HINGE = "squared_hinge"
    CROSS_ENTROPY = "cross_entropy"


class Reduction(StrEnum):
    """Words of --reduction."""

    MEAN = "mean"
    SUM = "sum"


TablePath = Annotated[
    Path, typer.Argument(metavar="DATA", help="Table: .csv, .tsv, .parquet, or .npz with X (n, d) and y.")
]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file written by cvxnn fit.")]
NetworkPath = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model file of cvxnn fit, or .pt, .pth, .onnx, .safetensors of others.")
]
WeightDecay = Annotated[
    float | None, typer.Option(help="As given to the optimiser of PyTorch: half of it times the squares.")
]
ForeignBeta = Annotated[
    float | None, typer.Option(help="Instead of --weight-decay: in the units of the summed loss of cvxnn.")
]
ForeignLossWord = Annotated[
    ForeignLoss | None, typer.Option(help="mse unless --beta is given, then squared (half of mse).")
]
ForeignDelta = Annotated[float | None, typer.Option(help="Width of huber and smooth_l1; 1 if not given.")]
ReductionWord = Annotated[
    Reduction | None, typer.Option(help="Whether the loss was a mean or a sum over the rows; mean if not given.")
]
DecayBiases = Annotated[
    bool | None, typer.Option("--decay-biases/--no-decay-biases", help="Whether biases were decayed, too; yes.")
]
LabelPositive = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Class for which the output is large; 1 among 0 and 1.")
]
Drop = Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out; repeatable.")]
ForeignTol = Annotated[float | None, typer.Option(help="Relative gap that counts as proved; 1e-4 if not given.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from cvxnn import __version__

        typer.echo(f"cvxnn {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train two-layer ReLU networks to a certified optimum, use them, and prove how good they are."""


@app.command()
def fit(
    data: TablePath,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column to predict, repeatable for numbers; 'y' by default for .npz."),
    ] = None,
    drop: Drop = None,
    architecture: Annotated[
        ArchitectureName, typer.Option(help="Network to train; all but relu have one output.")
    ] = ArchitectureName.RELU,
    gates: Annotated[int | None, typer.Option(min=1, help="Gates to draw; 1000 (gated).")] = None,
    coefficients: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="A B C", help="Activation A t^2 + B t + C; 0.09 0.5 0.47, near ReLU (polynomial)."),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=2, help="Layers; 3 (parallel).")] = None,
    sub_width: Annotated[int | None, typer.Option(min=1, help="Neurons below each neuron; 2 (parallel).")] = None,
    penalty: Annotated[Penalty | None, typer.Option(help="Norm of a sub-network; path (parallel).")] = None,
    alpha: Annotated[float, typer.Option(help="Weight decay in the units of the mean loss, > 0.")] = 0.01,
    loss: Annotated[
        LossName, typer.Option(help="auto: squared for numbers, logistic for two classes, softmax for more.")
    ] = LossName.AUTO,
    huber_delta: Annotated[float, typer.Option(help="Residual beyond which the Huber loss is linear.")] = 1.0,
    test_size: Annotated[float, typer.Option(help="Fraction of the rows to hold out for a test score.")] = 0.2,
    no_intercept: Annotated[bool, typer.Option("--no-intercept", help="No biases (column of ones).")] = False,
    no_standardize: Annotated[bool, typer.Option("--no-standardize", help="Keep the units of the columns.")] = False,
    tol: Annotated[float, typer.Option(help="Relative duality gap to reach, > 0.")] = 1e-4,
    time_limit: Annotated[float | None, typer.Option(help="Seconds; the best network so far is kept.")] = None,
    max_iter: Annotated[int | None, typer.Option(min=1, help="Outer iterations.")] = None,
    max_width: Annotated[int | None, typer.Option(min=1, help="Most neurons, for each output.")] = None,
    certify: Annotated[bool, typer.Option("--certify", help="Also bound all networks of all widths.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and of the search.")] = 0,
    out: Annotated[Path, typer.Option(help="Model file to write.")] = Path("model.safetensors"),
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Train a network on a table, with a proof of how good it is, and write it to a file.

    Exit code 0: the search ended with the tolerance met (with --certify: among all networks). With several outputs,
    where a tight bound may not be known, the end of the search is enough without --certify. 1: it did not, or was
    stopped before; the best network is written all the same. 2: wrong usage or unusable data.
    """
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was written"):
        from cvxnn.cli._architectures import ArchitectureOptions
        from cvxnn.cli._fit import FitOptions, run

        network = ArchitectureOptions(
            architecture.value, gates, coefficients, depth, sub_width, penalty.value if penalty else None
        )
        options = FitOptions(
            data=data,
            targets=tuple(target or ()),
            drop=tuple(drop or ()),
            network=network,
            alpha=alpha,
            loss=loss.value,
            huber_delta=huber_delta,
            test_size=test_size,
            intercept=not no_intercept,
            standardize=not no_standardize,
            tol=tol,
            time_limit=time_limit,
            max_iter=max_iter,
            max_width=max_width,
            certify=certify,
            seed=seed,
            out=out,
            as_json=as_json,
            quiet=quiet,
        )
        raise typer.Exit(run(options))


@app.command()
def predict(
    model: ModelPath,
    data: TablePath,
    out: Annotated[Path | None, typer.Option(help="CSV file to write instead of stdout.")] = None,
    proba: Annotated[bool, typer.Option("--proba", help="Add the probability of each class.")] = False,
    score: Annotated[bool, typer.Option("--score", help="Print the score on stderr; needs the target column.")] = False,
) -> None:
    """Predict the rows of a table; columns are found by name, others are ignored."""
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was predicted"):
        from cvxnn.cli._predict import run

        run(model, data, out=out, proba=proba, score=score)


@app.command()
def certify(
    model: NetworkPath,
    data: TablePath,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Target column, repeatable; needed unless MODEL was written by cvxnn fit."),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds for the bound.")] = 60.0,
    weight_decay: WeightDecay = None,
    beta: ForeignBeta = None,
    loss: ForeignLossWord = None,
    huber_delta: ForeignDelta = None,
    reduction: ReductionWord = None,
    decay_biases: DecayBiases = None,
    label_positive: LabelPositive = None,
    drop: Drop = None,
    tol: ForeignTol = None,
    as_json: AsJson = False,
) -> None:
    """Judge a network on a table against all networks of all widths, from its weights alone.

    MODEL is a file of cvxnn fit, or of another program: a PyTorch state_dict (.pt, .pth), .onnx, or plain .safetensors.
    The options from --weight-decay to --tol are for the latter: they say on what objective the network was trained.
    Such a network gets the columns as they stand in the file, in that order, without the target and not standardised.

    Exit code 0: proved within the tolerance (stored in the model, or --tol). 1: not proved; the bounds hold all the
    same. 2: wrong usage, or unusable files.
    """
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was proved"):
        from cvxnn.cli._certify import run

        foreign = _foreign_options(
            weight_decay, beta, loss, huber_delta, reduction, decay_biases, label_positive, drop, tol
        )
        raise typer.Exit(
            run(model, data, targets=tuple(target or ()), time_limit=time_limit, foreign=foreign, as_json=as_json)
        )


@app.command()
def report(
    model: NetworkPath,
    data: TablePath,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Target column, repeatable; that of the training for a file of cvxnn fit."),
    ] = None,
    certify: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Prove anew how good the network is, and look for a better.")
    ] = None,
    weight_decay: WeightDecay = None,
    beta: ForeignBeta = None,
    loss: ForeignLossWord = None,
    huber_delta: ForeignDelta = None,
    reduction: ReductionWord = None,
    decay_biases: DecayBiases = None,
    label_positive: LabelPositive = None,
    drop: Drop = None,
    tol: ForeignTol = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only.")] = False,
) -> None:
    """Write a page for the browser: what was trained, what is proved, how well it fits, what would improve it.

    The page is one file without scripts that loads nothing from a network.

    MODEL is a file of cvxnn fit, or of another program, as cvxnn certify takes it; the options from --weight-decay to
    --tol are for the latter.

    Exit code 0: written (with --certify: and proved within the tolerance). 1: written, but --certify did not prove it
    or was interrupted. 2: wrong usage, or unusable files.
    """
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was written"):
        from cvxnn.cli._report import run

        foreign = _foreign_options(
            weight_decay, beta, loss, huber_delta, reduction, decay_biases, label_positive, drop, tol
        )
        names = tuple(target or ())
        raise typer.Exit(run(model, data, out=out, targets=names, certify=certify, foreign=foreign, quiet=quiet))


@app.command()
def landscape(
    data: TablePath,
    target: Annotated[str | None, typer.Option(help="Column to predict; 'y' by default for .npz.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight decay in the units of the summed loss, > 0.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight decay in the units of the mean loss instead.")] = None,
    drop: Drop = None,
    loss: Annotated[
        LossName, typer.Option(help="auto: squared for numbers, logistic or softmax for classes.")
    ] = LossName.AUTO,
    huber_delta: Annotated[float, typer.Option(help="Residual beyond which the Huber loss is linear.")] = 1.0,
    no_intercept: Annotated[bool, typer.Option("--no-intercept", help="No biases (column of ones).")] = False,
    no_standardize: Annotated[bool, typer.Option("--no-standardize", help="Keep the units of the columns.")] = False,
    time_limit: Annotated[float | None, typer.Option(help="Seconds for the solve and the search.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the best networks of a table: uniqueness, critical widths, and the staircase of connectivity.

    All rows are used. The activation patterns must be few enough to be searched: some thousands of rows with one or two
    columns, hundreds with three, which are too many columns for three classes and more. Exit code 2 where they are not,
    with the reason.
    """
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was listed"):
        from cvxnn.cli._landscape import LandscapeOptions, run

        options = LandscapeOptions(
            data=data,
            target=target,
            drop=tuple(drop or ()),
            beta=beta,
            alpha=alpha,
            loss=loss.value,
            huber_delta=huber_delta,
            intercept=not no_intercept,
            standardize=not no_standardize,
            time_limit=time_limit,
            as_json=as_json,
        )
        raise typer.Exit(run(options))


@app.command()
def info(model: ModelPath, as_json: AsJson = False) -> None:
    """Show what is in a model file."""
    from cvxnn.cli._common import plain_errors

    with plain_errors("nothing was read"):
        from cvxnn.cli._info import run

        run(model, as_json=as_json)


def _foreign_options(
    weight_decay: float | None,
    beta: float | None,
    loss: ForeignLoss | None,
    huber_delta: float | None,
    reduction: Reduction | None,
    decay_biases: bool | None,
    label_positive: str | None,
    drop: list[str] | None,
    tol: float | None,
) -> ForeignOptions:
    """Options for networks of other programs, in the order in which certify and report declare them."""
    from cvxnn.cli._foreign import ForeignOptions

    return ForeignOptions(
        weight_decay=weight_decay,
        beta=beta,
        loss=loss.value if loss else None,
        huber_delta=huber_delta,
        reduction=reduction.value if reduction else None,
        decay_biases=decay_biases,
        label_positive=label_positive,
        drop=tuple(drop or ()),
        tol=tol,
    )


def main() -> None:
    """Entry point of the command ``cvxnn``."""
    app()
