"""Model files: weights as safetensors, everything else as one JSON string beside them. Loading runs no code."""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from cvxnn.interop.architecture_records import array_names, read_architecture, read_network, record_of, tensors_of
from cvxnn.interop.model import Course, FloatArray, Model, StoredCertificate
from cvxnn.interop.preprocessing import Feature, Preprocessing
from cvxnn.interop.targets import Target
from cvxnn.losses import get_loss
from cvxnn.networks import ReLUNetwork
from cvxnn.programs.dispatch import Network

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMAT", "Model", "ModelFileError", "StoredCertificate", "load_model", "save_model", "write_atomically"]

FORMAT = 3
"""Version of the file format; files of a later one are refused.

2 has the softmax loss and several targets, 3 the relatives of the ReLU network.
"""

_KEY = "cvxnn"
_SCALING = ("input_mean", "input_scale")
_PLAIN = {"kind": "relu"}
_MOST_ITERATIONS = 2**53


class ModelFileError(ValueError):
    """A file that is not a usable model; the message is one plain sentence."""


def save_model(path: str | Path, model: Model) -> None:
    """Write a model as one file: complete or not at all, the same bytes for the same model.

    Raises
    ------
    ModelFileError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    record = {
        "format": FORMAT,
        "version": model.version,
        "preprocessing": model.preprocessing.to_dict(),
        "target": model.target.to_dict(),
        "architecture": record_of(model.network, model.architecture),
        **{name: getattr(model, name) for name in _FIELDS},
        "certificate": asdict(model.certificate),
        **({} if model.course is None else {"course": asdict(model.course)}),
    }
    tensors = {
        **tensors_of(model.network, model.architecture),
        "input_mean": model.preprocessing.mean,
        "input_scale": model.preprocessing.scale,
    }
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True)
    content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, {_KEY: text})
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its destination, then rename it: a reader never sees half of it."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def load_model(path: str | Path) -> Model:
    """Read a model file.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, of another program, of a later format, or if its contents do not fit.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ModelFileError(f"{path} {'is not a file' if Path(path).exists() else 'does not exist'}.")
    try:
        with safe_open(str(path), framework="np") as stream:
            text = (stream.metadata() or {}).get(_KEY)
            if text is None:
                raise ModelFileError(f"{path} is a safetensors file, but not one written by cvxnn.")
            record = _parse(text, str(path))
            names, expected = sorted(stream.keys()), _expected_arrays(record, str(path))
            if names != expected:
                raise ModelFileError(f"{path} is damaged: it holds the arrays {names}, not {expected}.")
            tensors = {name: stream.get_tensor(name) for name in names}
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path} is not a model file of cvxnn, or is truncated (networks of other "
            "programs are told by their endings: .pt, .pth, .ckpt, .onnx, .safetensors)."
        ) from error
    try:
        return _assemble(record, tensors)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{path} is damaged: {_reason(error)}.") from error


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        record = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its description is not valid JSON.") from error
    version = record.get("format") if isinstance(record, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelFileError(f"{path} is damaged: its format version is {version!r}.")
    if version > FORMAT:
        raise ModelFileError(
            f"{path} has format version {version}; this cvxnn reads up to {FORMAT}: upgrade cvxnn to open it."
        )
    return record


def _expected_arrays(record: dict[str, Any], path: str) -> list[str]:
    try:
        return sorted([*array_names(record.get("architecture", _PLAIN)), *_SCALING])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {_reason(error)}.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the entry {error.args[0]!r} is missing"
    return str(error).rstrip(".")


def _number(value: Any, name: str, *, least: float = -math.inf, above: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is not a number")
    if not (math.isfinite(value) and value >= least and value > above):
        raise ValueError(f"{name} is {value!r}, which is out of range")
    return float(value)


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is not a natural number")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is not true or false")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    texts = tuple(_text(item, name) for item in value)
    if len(set(texts)) != len(texts):
        raise ValueError(f"{name} holds a name twice")
    return texts


_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "loss": _text,
    "huber_delta": lambda value, name: None if value is None else _number(value, name, above=0.0),
    "alpha": lambda value, name: _number(value, name, above=0.0),
    "beta": lambda value, name: _number(value, name, above=0.0),
    "tol": lambda value, name: _number(value, name, above=0.0),
    "seed": _integer,
    "test_size": lambda value, name: _number(value, name, least=0.0),
    "n_rows": _integer,
    "n_train": _integer,
    "table_hash": _text,
    "training_hash": _text,
}


def _assemble(record: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> Model:
    for name, array in tensors.items():
        if array.dtype != np.float64:
            raise ValueError(f"{name} is of type {array.dtype}, not float64")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds NaN or infinite values")
    preprocessing = _preprocessing(record["preprocessing"], tensors["input_mean"], tensors["input_scale"])
    target = _target(record["target"])
    architecture = record.get("architecture", _PLAIN)
    network = read_network(architecture, tensors)
    fields = {name: read(record[name], name) for name, read in _FIELDS.items()}
    _check_network(network, preprocessing, target, fields["loss"])
    if (fields["huber_delta"] is None) == (fields["loss"] == "huber"):
        raise ValueError("huber_delta belongs to the loss 'huber' and to no other")
    if not fields["test_size"] < 1.0 or not 0 < fields["n_train"] <= fields["n_rows"]:
        raise ValueError("the numbers of rows do not fit together")
    return Model(
        network=network,
        preprocessing=preprocessing,
        target=target,
        certificate=_certificate(record["certificate"]),
        version=_text(record["version"], "version"),
        architecture=read_architecture(architecture, tensors),
        course=_course(record.get("course")),
        **fields,
    )


def _preprocessing(record: dict[str, Any], mean: FloatArray, scale: FloatArray) -> Preprocessing:
    features = tuple(_feature(item) for item in record["features"])
    _texts([feature.name for feature in features], "the list of columns")
    result = Preprocessing(
        features, mean, scale, _flag(record["intercept"], "intercept"), _flag(record["standardized"], "standardized")
    )
    expected = (len(result.inputs),)
    if not features or mean.shape != expected or scale.shape != expected or np.any(scale <= 0):
        raise ValueError("the scaling does not fit the columns")
    return result


def _feature(record: dict[str, Any]) -> Feature:
    name = _text(record["name"], "the name of a column")
    if "categories" not in record:
        return Feature(name)
    feature = Feature(name, _texts(record["categories"], name), _texts(record["encoded"], name))
    if not feature.encoded or not set(feature.encoded) <= set(feature.categories or ()):
        raise ValueError(f"the categories of column {name!r} do not fit together")
    return feature


def _target(record: dict[str, Any]) -> Target:
    kind, classes = record["kind"], _texts(record["classes"], "the list of classes")
    fits = {"regression": len(classes) == 0, "binary": len(classes) == 2, "multiclass": len(classes) > 2}
    if not fits.get(kind, False):
        raise ValueError(f"a target of kind {kind!r} with {len(classes)} classes is not possible")
    mean, scale = _number(record["mean"], "the mean"), _number(record["scale"], "the scale", above=0.0)
    more = tuple(_target(part) for part in record.get("more", []))
    if any(part.kind != "regression" or part.more for part in more) or (more and kind != "regression"):
        raise ValueError("several targets must be numbers, all of them")
    target = Target(_text(record["name"], "the name of the target"), kind, classes, mean, scale, more)
    _texts(list(target.names), "the list of targets")
    return target


def _check_network(network: Network, preprocessing: Preprocessing, target: Target, loss: str) -> None:
    softmax = loss == "softmax"
    if (target.kind != "multiclass") if softmax else (get_loss(loss).labels == (target.kind == "regression")):
        raise ValueError(f"the loss {loss!r} does not fit a target of kind {target.kind!r}")
    if network.n_features != preprocessing.n_features:
        raise ValueError(f"W takes {network.n_features} inputs, but the columns make {preprocessing.n_features}")
    if not isinstance(network, ReLUNetwork):
        if target.n_outputs > 1:
            raise ValueError(f"a {type(network).__name__} has one output, but the target needs {target.n_outputs}")
        return
    many = target.n_outputs > 1
    if network.a.ndim != (2 if many else 1) or network.n_outputs != target.n_outputs:
        raise ValueError(f"a has shape {network.a.shape}, but the target needs {target.n_outputs} outputs")
    if target.kind == "multiclass" and not softmax and np.any(np.count_nonzero(network.a, axis=1) > 1):
        raise ValueError("a neuron serves more than one class")


def _certificate(record: dict[str, Any]) -> StoredCertificate:
    scope = record["scope"]
    if scope not in ("global", "patterns"):
        raise ValueError(f"the scope {scope!r} of the certificate is not known")
    numbers = {name: _number(record[name], name) for name in ("objective", "lower_bound", "global_lower_bound")}
    return StoredCertificate(
        scope=scope, status=_text(record["status"], "status"), n_iter=_integer(record["n_iter"], "n_iter"), **numbers
    )


def _course(record: dict[str, Any] | None) -> Course | None:
    """Course of the training; None in files of earlier versions, which hold none."""
    if record is None:
        return None
    iterations = tuple(_integer(item, "iterations") for item in record["iterations"])
    objective = tuple(_number(item, "objective") for item in record["objective"])
    bounds = record["lower_bound"]
    lower = tuple(None if item is None else _number(item, "lower_bound") for item in bounds)
    if not len(iterations) == len(objective) == len(lower):
        raise ValueError("the course of the training has lists of different lengths")
    if not iterations or list(iterations) != sorted(iterations) or iterations[-1] > _MOST_ITERATIONS:
        raise ValueError("the iterations of the course of the training are none, not in order or too large")
    return Course(iterations, objective, lower)
