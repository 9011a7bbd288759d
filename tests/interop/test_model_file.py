"""Model files: the round trip to the last digit, and a sentence for every file that is not one."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from cvxnn import BatchNormReLU, GatedReLU, ParallelReLU, ParallelReLUNetwork, Polynomial, ReLU, ReLUNetwork
from cvxnn.interop.model import Course, Model, StoredCertificate
from cvxnn.interop.model_file import ModelFileError, load_model, save_model
from cvxnn.interop.preprocessing import Preprocessing
from cvxnn.interop.tables import Column, Table, TableError
from cvxnn.interop.targets import Target
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork


def make_table() -> Table:
    rng = np.random.default_rng(3)
    cells = {
        "größe": [repr(float(v)) for v in rng.normal(7, 3, 12)],
        "colour": list(rng.choice(["red", "green", 'bl"ue'], 12)),
        "y": [repr(float(v)) for v in rng.normal(size=12)],
    }
    return Table("t.csv", tuple(Column.from_text(name, texts) for name, texts in cells.items()))


def make_model(kind: str = "regression") -> Model:
    rng, table = np.random.default_rng(0), make_table()
    preprocessing, _ = Preprocessing.fit(table, ["größe", "colour"], np.arange(9))
    W, a = rng.normal(size=(6, preprocessing.n_features)), rng.normal(size=6)
    target = {
        "regression": Target("y", "regression", (), 0.1, 1 / 3),
        "binary": Target("y", "binary", ("no", "yes")),
        "multiclass": Target("y", "multiclass", ("a", "b", "c")),
        "softmax": Target("y", "multiclass", ("a", "b", "c")),
        "several": Target("y", "regression", (), 0.1, 1 / 3, (Target("z", "regression", (), 2.0, 4.0),)),
    }[kind]
    if kind == "multiclass":
        a = a[:, None] * np.eye(3)[np.arange(6) % 3]
    elif kind in ("softmax", "several"):
        a = rng.normal(size=(6, target.n_outputs))
    return Model(
        network=ReLUNetwork(W, a),
        preprocessing=preprocessing,
        target=target,
        loss={"regression": "squared", "several": "squared", "softmax": "softmax"}.get(kind, "logistic"),
        huber_delta=None,
        alpha=1e-3,
        beta=9e-3,
        tol=1e-4,
        seed=0,
        test_size=0.25,
        n_rows=12,
        n_train=9,
        certificate=StoredCertificate(2.0, 1.9999, "patterns", 1.0, "patterns optimum", 3),
        table_hash="00",
        training_hash="ff",
        version="0.1.0",
    )


@pytest.mark.parametrize("kind", ["regression", "binary", "multiclass", "softmax", "several"])
def test_round_trip(tmp_path, kind):
    model, table = make_model(kind), make_table()
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(table), model.predict(table))
    np.testing.assert_array_equal(loaded.outputs(table), model.outputs(table))
    save_model(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    for name in ("target", "alpha", "beta", "tol", "seed", "certificate", "table_hash", "training_hash", "n_train"):
        assert getattr(loaded, name) == getattr(model, name)


COURSE = Course((0, 1, 1), (3.0, 2.5, 2.0), (None, 1.0, 1.9999))


def test_the_course_comes_back(tmp_path):
    save_model(tmp_path / "m.safetensors", replace(make_model(), course=COURSE))
    assert load_model(tmp_path / "m.safetensors").course == COURSE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": [0, 1]}, "lists of different lengths"),
        ({"iterations": [1, 0, 1]}, "not in order"),
        ({"iterations": [0, 1, 10**400]}, "too large"),
        ({"iterations": [], "objective": [], "lower_bound": []}, "are none"),
        ({"iterations": [0, 1, 1.5]}, "iterations is not a natural number"),
        ({"objective": [3.0, None, 2.0]}, "objective is not a number"),
        ({"lower_bound": ["<b>", 1.0, 2.0]}, "lower_bound is not a number"),
        ({"lower_bound": 1.0}, "damaged"),
    ],
)
def test_a_damaged_course_is_told(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    save_model(path, replace(make_model(), course=COURSE))
    with safe_open(path, framework="np") as stream:
        record = json.loads(stream.metadata()["cvxnn"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    record["course"] |= change
    save_file(tensors, path, {"cvxnn": json.dumps(record)})
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_zero_network_and_huber(tmp_path):
    model = replace(make_model(), network=ReLUNetwork.zero(5), loss="huber", huber_delta=0.5)
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.network.width == 0
    assert loaded.loss_object() == model.loss_object()
    np.testing.assert_array_equal(loaded.predict(make_table()), np.full(12, 0.1))


def test_network_of_each_output():
    model, table = make_model("multiclass"), make_table()
    X = model.preprocessing.transform(table)
    parts = np.column_stack([model.network_of(k)(X) for k in range(3)])
    np.testing.assert_allclose(parts, model.outputs(table), rtol=1e-12)


def test_probabilities():
    table = make_table()
    for kind in ("binary", "multiclass", "softmax"):
        model = make_model(kind)
        probability = model.predict_proba(table)
        np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-12)
        best = np.array(model.target.classes)[probability.argmax(axis=1)]
        np.testing.assert_array_equal(best, model.predict(table))
    huge = replace(make_model("multiclass"), network=ReLUNetwork(1e6 * np.eye(5)[[4, 4, 4]], -np.eye(3)))
    np.testing.assert_allclose(huge.predict_proba(table), 1 / 3)
    with pytest.raises(TableError, match='need a model with the loss "logistic" or "softmax"'):
        make_model().predict_proba(table)


def test_score_against_scikit_learn():
    from sklearn.metrics import r2_score

    rng, model = np.random.default_rng(1), make_model()
    outputs, encoded = rng.normal(size=(2, 9))
    assert model.score(outputs, encoded) == pytest.approx(r2_score(encoded, outputs), rel=1e-12)
    assert model.score(outputs, np.ones(9)) is None
    assert model.score(outputs[:0], encoded[:0]) is None
    assert make_model("binary").score(np.array([1.0, -1.0, 0.0]), np.array([1.0, 1.0, 0.0])) == pytest.approx(2 / 3)


def parts(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    with safe_open(path, framework="np") as stream:
        return json.loads(stream.metadata()["cvxnn"]), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "m.safetensors", make_model())
    return tmp_path / "m.safetensors"


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for size in [*range(0, 64), *range(64, len(whole), 97), len(whole) - 1]:
        saved.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="not a model file of cvxnn, or is truncated"):
            load_model(saved)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_foreign_files_are_refused_and_run_no_code(tmp_path):
    trace = tmp_path / "trace"
    foreign = {
        "pickle": pickle.dumps(Trap(str(trace))),
        "noise": np.random.default_rng(0).bytes(500),
        "text": b"a,b\n1,2\n" * 10,
        "zip": b"PK\x03\x04" + bytes(100),
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFileError, match="not a model file of cvxnn"):
            load_model(tmp_path / name)
    assert not trace.exists()
    save_file({"weight": np.eye(2)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match="a safetensors file, but not one written by cvxnn"):
        load_model(tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="does not exist"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelFileError, match="is not a file"):
        load_model(tmp_path)


def _set(path: str, value: object):
    def change(record: dict, tensors: dict) -> None:
        *parents, last = path.split(".")
        for key in parents:
            record = record[key]
        record[last] = value

    return change


def _tensor(name: str, function):
    def change(record: dict, tensors: dict) -> None:
        tensors[name] = function(tensors[name])

    return change


def _remove(name: str):
    return lambda record, tensors: record.pop(name)


def _nan_at(index):
    def poison(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[index] = np.nan
        return array

    return poison


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", 4), "has format version 4; this cvxnn reads up to 3: upgrade"),
        (_set("format", "one"), "its format version is 'one'"),
        (_remove("beta"), "the entry 'beta' is missing"),
        (_remove("certificate"), "the entry 'certificate' is missing"),
        (_set("beta", -1.0), "beta is -1.0, which is out of range"),
        (_set("beta", "1"), "beta is not a number"),
        (_set("alpha", True), "alpha is not a number"),
        (_set("seed", 1.5), "seed is not a natural number"),
        (_set("n_train", 13), "numbers of rows do not fit"),
        (_set("loss", "cubic"), "loss must be one of"),
        (_set("loss", "logistic"), "does not fit a target of kind 'regression'"),
        (_set("huber_delta", 1.0), "huber_delta belongs to the loss 'huber'"),
        (_set("target.kind", "ranking"), "kind 'ranking'"),
        (_set("target.kind", ["binary"]), "damaged"),
        (_set("target.scale", 0.0), "the scale is 0.0"),
        (_set("target", None), "damaged"),
        (_set("certificate.scope", "universal"), "scope 'universal'"),
        (_set("certificate.objective", None), "objective is not a number"),
        (_set("preprocessing.features", []), "scaling does not fit the columns"),
        (_set("preprocessing.features", [{"name": "größe"}, {"name": "größe"}]), "holds a name twice"),
        (_set("preprocessing.features", [{"name": "c", "categories": ["u"], "encoded": ["w"]}]), "do not fit together"),
        (_set("preprocessing.intercept", False), "W takes 5 inputs, but the columns make 4"),
        (_set("preprocessing.intercept", 1), "intercept is not true or false"),
        (_tensor("W", _nan_at((0, 0))), "W holds NaN or infinite values"),
        (_tensor("a", _nan_at(0)), "a holds NaN or infinite values"),
        (_tensor("input_scale", _nan_at(0)), "input_scale holds NaN"),
        (_tensor("input_scale", np.zeros_like), "scaling does not fit"),
        (_tensor("input_mean", lambda m: m[:-1]), "scaling does not fit"),
        (_tensor("W", lambda W: W[:, :-1].copy()), "W takes 4 inputs"),
        (_tensor("W", lambda W: W[:-1]), "a must have shape"),
        (_tensor("W", lambda W: W.ravel()), "W must have shape"),
        (_tensor("W", lambda W: W.astype(np.float32)), "W is of type float32"),
        (_tensor("a", lambda a: np.column_stack([a, a])), "the target needs 1 outputs"),
        (_tensor("extra", lambda _: np.ones(1)), "it holds the arrays"),
    ],
)
def test_tampered_files_are_refused(saved, change, message):
    record, tensors = parts(saved)
    tensors.setdefault("extra", np.ones(1))
    change(record, tensors)
    if "arrays" not in message:
        del tensors["extra"]
    save_file(tensors, saved, {"cvxnn": json.dumps(record)})
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": NaN}', "[" * 100_000])
def test_descriptions_that_are_not_json_are_refused(saved, text):
    _, tensors = parts(saved)
    save_file(tensors, saved, {"cvxnn": text})
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(saved)


def test_neuron_of_two_classes_is_refused(tmp_path):
    model = make_model("multiclass")
    save_model(tmp_path / "m", replace(model, network=ReLUNetwork(model.network.W, np.ones((6, 3)))))
    with pytest.raises(ModelFileError, match="serves more than one class"):
        load_model(tmp_path / "m")


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_model(path, make_model())
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ModelFileError, match="cannot be written: No space left on device"):
        save_model(path, make_model("binary"))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_writing_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.safetensors"
    link.symlink_to(tmp_path / "real" / "m.safetensors")
    save_model(link, make_model())
    assert link.is_symlink()
    assert load_model(tmp_path / "real" / "m.safetensors").n_train == 9


RELATIVES = {
    "gated": (
        GatedReLUNetwork([[1.0, 0.0, 0.0, 0.0, 1.0]], [[1.0, 2.0, 3.0, 4.0, 5.0]], [0.5]),
        GatedReLU(np.eye(5)[[0, 0, 1]] + np.eye(5)[[4, 3, 2]]),
    ),
    "batch_norm": (
        BatchNormReLUNetwork.from_data(
            np.random.default_rng(0).normal(size=(7, 5)), np.eye(5)[:2], [1, 2], [3, 4], [5, 6]
        ),
        BatchNormReLU(),
    ),
    "polynomial": (PolynomialNetwork(np.eye(5)[:2], [1.0, -2.0], (0.1, 0.5, 0.0)), Polynomial(0.1, 0.5, 0.0)),
    "parallel": (
        ParallelReLUNetwork(np.arange(40.0).reshape(2, 2, 2, 5), (np.ones((2, 2, 2)), -np.ones((2, 2))), [1.0, -1.0]),
        ParallelReLU(depth=4),
    ),
}


def relative(kind: str) -> Model:
    network, architecture = RELATIVES[kind]
    return replace(make_model(), network=network, architecture=architecture)


@pytest.mark.parametrize("kind", RELATIVES)
def test_relatives_come_back_to_the_last_digit(tmp_path, kind):
    model, table = relative(kind), make_table()
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.outputs(table), model.outputs(table))
    assert type(loaded.network) is type(model.network)
    assert repr(loaded.architecture) == repr(model.architecture)
    if kind == "gated":
        np.testing.assert_array_equal(loaded.architecture.gates, model.architecture.gates)
    save_model(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_files_of_format_2_are_read(tmp_path):
    save_model(tmp_path / "m.safetensors", make_model())
    with safe_open(str(tmp_path / "m.safetensors"), framework="np") as stream:
        record = json.loads(stream.metadata()["cvxnn"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    assert record.pop("architecture") == {"kind": "relu"}
    save_file(tensors, tmp_path / "old.safetensors", {"cvxnn": json.dumps(record | {"format": 2})})
    loaded = load_model(tmp_path / "old.safetensors")
    assert loaded.architecture == ReLU()
    np.testing.assert_array_equal(loaded.outputs(make_table()), make_model().outputs(make_table()))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("polynomial", {"kind": "deep"}, "kind 'deep' is not known"),
        ("polynomial", {"kind": ["gated"]}, "is damaged"),
        ("polynomial", {"coefficients": [0, 0, 0]}, "one must not be 0"),
        ("polynomial", {"coefficients": 3}, "is damaged"),
        ("polynomial", {"kind": "gated"}, "it holds the arrays"),
        ("batch_norm", {"n_samples": 0}, "n_samples"),
        ("parallel", {"depth": 10**9}, "layers is not possible"),
        ("parallel", {"depth": "four"}, "depth"),
        ("parallel", {"width": 3}, "does not fit"),
        ("parallel", {"penalty": "l1"}, "penalty"),
    ],
)
def test_damaged_records_of_relatives_are_told(tmp_path, kind, change, message):
    path = tmp_path / "m.safetensors"
    save_model(path, relative(kind))
    with safe_open(str(path), framework="np") as stream:
        record = json.loads(stream.metadata()["cvxnn"])
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    record["architecture"] |= change
    save_file(tensors, path, {"cvxnn": json.dumps(record)})
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


def test_gates_that_are_not_listed_and_two_outputs_are_told(tmp_path):
    path = tmp_path / "m.safetensors"
    network, _ = RELATIVES["gated"]
    save_model(path, replace(relative("gated"), architecture=GatedReLU(np.eye(5))))
    with pytest.raises(ModelFileError, match="gates must list the gate of every neuron"):
        load_model(path)
    save_model(path, replace(make_model("multiclass"), network=network, architecture=GatedReLU(network.gates)))
    with pytest.raises(ModelFileError, match="has one output, but the target needs 3"):
        load_model(path)
