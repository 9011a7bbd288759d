"""Relatives of the ReLU network as PyTorch modules and ONNX models: the same numbers to the last digits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cvxnn import BatchNormReLU, ParallelReLU, ParallelReLUNetwork, Polynomial, Problem, SampledGatedReLU, solve
from cvxnn.interop import to_onnx, to_torch
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


NETWORKS = {
    "gated": GatedReLUNetwork(*RNG.standard_normal((2, 5, 3)), RNG.standard_normal(5)),
    "polynomial": PolynomialNetwork(unit(RNG.standard_normal((5, 3))), RNG.standard_normal(5), (0.5, -1.0, 0.25)),
    "parallel": ParallelReLUNetwork(
        RNG.standard_normal((4, 2, 3)), (RNG.standard_normal((4, 2)),), [1.0, -2.0, 3.0, 1.0]
    ),
    "deep": ParallelReLUNetwork(
        RNG.standard_normal((3, 2, 2, 3)),
        (RNG.standard_normal((3, 2, 2)), RNG.standard_normal((3, 2))),
        [1.0, -1.0, 2.0],
    ),
    "two layers": ParallelReLUNetwork(RNG.standard_normal((4, 3)), (), RNG.standard_normal(4)),
    "batch norm": BatchNormReLUNetwork.from_data(
        X + np.array([5.0, -3.0, 0.0]), RNG.standard_normal((4, 3)), *RNG.standard_normal((3, 4))
    ),
    "batch norm with a dead neuron": BatchNormReLUNetwork(
        np.ones((2, 3)), [1.0, 2.0], [3.0, -1.0], [1.0, 1.0], np.ones(3), [0.0, 2.0], 40
    ),
    "no gated neuron": GatedReLUNetwork(np.zeros((0, 3)), np.zeros((0, 3)), []),
    "no polynomial neuron": PolynomialNetwork(np.zeros((0, 3)), [], (1.0, 2.0, 3.0)),
    "no sub-network": ParallelReLUNetwork(np.zeros((0, 2, 3)), (np.zeros((0, 2)),), []),
    "no batch-norm neuron": BatchNormReLUNetwork.from_data(X, np.zeros((0, 3)), [], [], []),
}


def torch_outputs(module, data):
    with torch.no_grad():
        return module(torch.from_numpy(data)).numpy()


def onnx_outputs(model, data):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": data})[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_and_models_compute_the_same_function(name):
    network = NETWORKS[name]
    expected = network(X)
    close = dict(rtol=1e-12, atol=1e-12 * (1 + np.max(np.abs(expected))))
    module = to_torch(network, dtype=torch.float64)
    outputs = torch_outputs(module, X)
    assert outputs.shape == (40, 1)
    np.testing.assert_allclose(outputs[:, 0], expected, **close)
    model = to_onnx(network, dtype=np.float64)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(onnx_outputs(model, X)[:, 0], expected, **close)
    single = onnx_outputs(to_onnx(network), X.astype(np.float32))
    assert single.dtype == np.float32
    if "gated" not in name:
        np.testing.assert_allclose(single[:, 0], expected, rtol=1e-4, atol=1e-4 * (1 + np.max(np.abs(expected))))


@pytest.mark.parametrize("name", ["gated", "polynomial", "parallel", "deep", "two layers"])
def test_the_last_weight_becomes_a_bias(name):
    network = NETWORKS[name]
    data = X.copy()
    data[:, -1] = 1.0
    module = to_torch(network, bias=True, dtype=torch.float64)
    np.testing.assert_allclose(torch_outputs(module, X[:, :2])[:, 0], network(data), rtol=1e-12, atol=1e-12)
    model = to_onnx(network, bias=True, dtype=np.float64)
    np.testing.assert_allclose(
        onnx_outputs(model, np.ascontiguousarray(X[:, :2]))[:, 0], network(data), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", ["gated", "polynomial", "parallel", "batch norm"])
def test_modules_are_copied_stored_and_trained(name, tmp_path):
    module = to_torch(NETWORKS[name], dtype=torch.float64)
    expected = torch_outputs(module, X)
    np.testing.assert_array_equal(torch_outputs(copy.deepcopy(module), X), expected)
    np.testing.assert_array_equal(torch_outputs(pickle.loads(pickle.dumps(module)), X), expected)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    module.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    module(torch.from_numpy(X)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for n, p in module.named_parameters() if not n.startswith("gates"))
    assert to_torch(NETWORKS[name])(torch.zeros(2, 3)).dtype == torch.float32


def test_drawing_no_random_numbers():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for network in NETWORKS.values():
        to_torch(network)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "architecture", [SampledGatedReLU(10), Polynomial(0.5, 1, 0), BatchNormReLU(), ParallelReLU(width=1)], ids=repr
)
def test_networks_of_solve(architecture):
    network = solve(Problem(X[:12], np.sin(X[:12, 0]), beta=0.1), architecture=architecture, tol=1e-3).network
    module = to_torch(network, dtype=torch.float64)
    np.testing.assert_allclose(torch_outputs(module, X)[:, 0], network(X), rtol=1e-12, atol=1e-12)


def test_batch_norm_has_no_column_of_ones():
    for export in (to_torch, to_onnx):
        with pytest.raises(ValueError, match="batch norm has its own shift"):
            export(NETWORKS["batch norm"], bias=True)
