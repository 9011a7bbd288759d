"""PyTorch: what is read equals what the module computes, what cannot be read is refused in one sentence."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from cvxnn import ReLUNetwork
from cvxnn.interop import (
    NetworkFormatError,
    from_safetensors,
    from_torch,
    load_network,
    to_torch,
)


def layers(d=3, m=6, bias=True, out_bias=True, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(d, m, bias=bias, dtype=dtype), nn.Linear(m, 1, bias=out_bias, dtype=dtype)


def data(d=3, n=40, seed=1):
    return np.random.default_rng(seed).standard_normal((n, d))


def with_ones(X):
    return np.column_stack([X, np.ones(len(X))])


def outputs(module, X, dtype=torch.float64):
    with torch.no_grad():
        return module.eval()(torch.tensor(X, dtype=dtype)).numpy().reshape(-1)


class Named(nn.Module):
    """The commonest form: layers as attributes, the activation in forward."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = layers()
        self.function = function
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        return self.second(self.drop(self.function(self.first(x)))).squeeze(-1)


def variants():
    one, two = layers()
    yield "sequential", nn.Sequential(one, nn.ReLU(), two)
    yield (
        "nested",
        nn.Sequential(nn.Flatten(), nn.Sequential(one, nn.ReLU(inplace=True)), nn.Dropout(), nn.Sequential(two)),
    )
    yield "names", nn.Sequential()
    yield "functional", Named(torch.relu)
    yield "method", Named(lambda x: x.relu())
    yield "nn.functional", Named(nn.functional.relu)
    yield "parallel", nn.DataParallel(nn.Sequential(one, nn.ReLU(), two))
    yield "bottom", nn.Sequential(nn.Identity(), one, nn.ReLU(), two, nn.Identity())


@pytest.mark.parametrize(("name", "module"), list(variants()), ids=lambda v: v if isinstance(v, str) else "")
def test_modules(name, module):
    if name == "names":
        module.add_module("hidden", layers()[0])
        module.add_module("act", nn.ReLU())
        module.add_module("head", layers()[1])
    was = module.training
    net, X = from_torch(module), data()
    assert module.training is was
    np.testing.assert_allclose(net(with_ones(X)), outputs(getattr(module, "module", module), X), rtol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_biases_and_dtypes(bias, out_bias, dtype):
    one, two = layers(bias=bias, out_bias=out_bias, dtype=dtype)
    module = nn.Sequential(one, nn.ReLU(), two)
    for net in (from_torch(module), from_torch(module.state_dict())):
        assert net.n_features == 3 + bias
        assert net.output_bias == (two.bias.item() if out_bias else 0.0)
        np.testing.assert_array_equal(net.W[:, :3], one.weight.detach().double().numpy())
        X = with_ones(data()) if bias else data()
        np.testing.assert_allclose(net(X), outputs(module.double(), data()), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.75])
def test_round_trip_from_cvxnn(dtype, bias, offset):
    rng = np.random.default_rng(2)
    W, a = rng.standard_normal((5, 4)), rng.standard_normal(5)
    if dtype is torch.float32:
        W, a = W.astype(np.float32), a.astype(np.float32)
    net = ReLUNetwork(W, a, output_bias=offset)
    state = torch.get_rng_state()
    module = to_torch(net, bias=bias, dtype=dtype)
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.dtype is dtype and parameter.requires_grad for parameter in module.parameters())
    assert (module[0].bias is not None, module[2].bias is not None) == (bias, bias or offset != 0.0)
    back = from_torch(module)
    np.testing.assert_array_equal(back.W, net.W)
    np.testing.assert_array_equal(back.a, net.a)
    assert back.output_bias == offset
    X = data(4 - bias)
    tolerance = 1e-13 if dtype is torch.float64 else 2e-5
    expected = net(with_ones(X) if bias else X)
    np.testing.assert_allclose(outputs(module, X, dtype), expected, rtol=tolerance, atol=tolerance)


def test_to_torch_of_odd_networks():
    assert to_torch(ReLUNetwork([[1.0]], [1.0]))[0].weight.dtype is torch.float32
    empty = ReLUNetwork(np.zeros((0, 2)), np.zeros(0), output_bias=1.5)
    np.testing.assert_array_equal(outputs(to_torch(empty, dtype=torch.float64), data(2)), np.full(40, 1.5))
    two = to_torch(ReLUNetwork([[1.0, 0.0]], [[1.0, 2.0]]), dtype=torch.float64)
    assert two(torch.ones(1, 2, dtype=torch.float64)).tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="at least two inputs"):
        to_torch(ReLUNetwork([[1.0]], [1.0]), bias=True)


class Twisted(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2.0


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)) + x)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x))) if x.sum() > 0 else x[:, :1]


def hooked():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    module[0].register_forward_hook(lambda layer, x, out: out + 1.0)
    return module


def pruned():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    prune.random_unstructured(module[0], "weight", 0.5)
    return module


def refused():
    one, two = nn.Linear(3, 4), nn.Linear(4, 1)
    yield nn.Sequential(one, nn.Tanh(), two), "holds Tanh; only Linear, ReLU, Linear is accepted"
    yield nn.Sequential(one, nn.LeakyReLU(), two), "holds LeakyReLU"
    yield nn.Sequential(one, nn.BatchNorm1d(4), nn.ReLU(), two), "holds BatchNorm1d"
    yield nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), one, nn.ReLU(), two), "holds Conv1d"
    yield (
        nn.Sequential(one, nn.ReLU(), two, nn.Sigmoid()),
        r"holds Sigmoid; .*\(use the part of the network before it\)",
    )
    yield (
        nn.Sequential(one, nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), two),
        r"must be Linear, ReLU, Linear \(one hidden layer\); found Linear, ReLU, Linear, ReLU, Linear",
    )
    yield nn.Sequential(one, two), "found Linear, Linear"
    yield one, "found Linear"
    yield nn.Sequential(), "found no layer"
    yield (
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)),
        "has 2 outputs with biases but no hidden biases",
    )
    yield nn.Sequential(one, nn.ReLU(), nn.Linear(5, 1)), "has 4 hidden neurons but its second layer takes 5"
    yield Twisted(one, nn.ReLU(), two), "computes something else|holds mul"
    yield Skip(), "another input|holds add"
    yield Branching(), "cannot be traced to its layers"
    yield hooked(), "computes something else than its layers|holds add"
    yield nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU(), two), "Parametrized|holds"
    yield pruned(), "hooks before it, such as a pruning mask"
    yield nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 1)), "holds LazyLinear"
    yield 3, "a torch.nn.Module or a state_dict is accepted; got int"
    yield {"a.weight": torch.ones(4, 3)}, r"the two weight matrices .* found a.weight \(4, 3\)"
    yield {"0.weight": torch.ones(4, 3), "2.weight": torch.ones(1, 5)}, "no order of them makes a network"
    yield (
        {"0.weight": torch.ones(4, 3), "2.weight": torch.ones(2, 4), "2.bias": torch.ones(2)},
        "has 2 outputs with biases but",
    )
    yield (
        {"0.weight": torch.ones(4, 3), "1.weight": torch.ones(4), "1.running_mean": torch.ones(4)},
        "at most two biases; found",
    )
    yield (
        {"0.weight": torch.ones(4, 3), "2.weight": torch.ones(1, 4), "0.bias": torch.ones(3)},
        "4 neurons but 3 biases",
    )
    yield (
        {"0.weight": torch.ones(4, 3), "2.weight": torch.ones(1, 4), "7.bias": torch.ones(4)},
        "'7.bias', which belongs",
    )
    yield {"0.weight": torch.full((4, 3), torch.nan), "2.weight": torch.ones(1, 4)}, "NaN or infinite"
    yield {"0.weight": 1.0}, "must hold tensors; '0.weight' is float"
    yield {}, "found nothing"


@pytest.mark.parametrize(("module", "message"), list(refused()))
def test_refused_in_one_sentence(module, message):
    with pytest.raises(NetworkFormatError, match=message) as error:
        from_torch(module)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "names",
    [
        ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"),
        ("net.10.weight", "net.10.bias", "net.9.weight", "net.9.bias"),
        ("hidden.weight", "hidden.bias", "a_head.weight", "a_head.bias"),
        ("W1", "b1", "W2", "b2"),
        ("module.l.W", "module.l.b", "module.o.W", "module.o.b"),
    ],
)
def test_names_of_a_state_dict_do_not_matter(names):
    one, two = layers()
    tensors = dict(zip(names, (one.weight, one.bias, two.weight, two.bias), strict=True))
    expected = from_torch(nn.Sequential(one, nn.ReLU(), two))
    for order in (list(tensors), list(reversed(tensors))):
        net = from_torch({name: tensors[name] for name in order})
        np.testing.assert_array_equal(net.W, expected.W)
        np.testing.assert_array_equal(net.a, expected.a)
        assert net.output_bias == expected.output_bias


def test_one_input_one_neuron_is_ordered_by_names():
    """Shapes cannot tell (1, 1) from (1, 1); numbers in names count as numbers."""
    tensors = {"10.weight": torch.tensor([[3.0]]), "10.bias": torch.tensor([4.0]), "9.weight": torch.tensor([[-2.0]])}
    net = from_torch(tensors)
    assert (net.W.tolist(), net.a.tolist(), net.output_bias) == ([[-2.0]], [3.0], 4.0)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("ending", ["pt", "pth"])
def test_checkpoint_files(tmp_path, wrap, ending):
    one, two = layers()
    module = nn.Sequential(one, nn.ReLU(), two)
    content = module.state_dict() if wrap is None else {"epoch": 3, wrap: module.state_dict()}
    path = tmp_path / f"net.{ending}"
    torch.save(content, path)
    np.testing.assert_allclose(load_network(path)(with_ones(data())), outputs(module, data()), rtol=1e-13)


def test_wrappers():
    """skorch keeps the module as ``module_``; torch.compile wraps it."""
    module = nn.Sequential(layers()[0], nn.ReLU(), layers()[1])
    skorch = type("Net", (), {"module_": module})()
    compiled = nn.Module()
    compiled._orig_mod = module
    for wrapped in (skorch, compiled):
        np.testing.assert_array_equal(from_torch(wrapped).W, from_torch(module).W)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_files_run_no_code(tmp_path):
    """A checkpoint that would write a file is refused, and the file is not there; so is a whole pickled module."""
    marker = tmp_path / "marker"
    torch.save({"0.weight": torch.ones(4, 3), "x": Malicious(marker)}, tmp_path / "bad.pt")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Malicious(marker)))
    torch.save(nn.Sequential(*layers()), tmp_path / "module.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("bad.pt", "raw.pth", "module.pt", "text.pt", "empty.pt"):
        with pytest.raises(NetworkFormatError, match=r"holds more than tensors.*save module.state_dict\(\) instead"):
            load_network(tmp_path / name)
    assert not marker.exists()


def test_bad_files(tmp_path):
    with pytest.raises(NetworkFormatError, match="does not exist"):
        load_network(tmp_path / "none.pt")
    with pytest.raises(NetworkFormatError, match="is not a file"):
        (tmp_path / "folder.pt").mkdir()
        load_network(tmp_path / "folder.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(NetworkFormatError, match="must hold a state_dict; found list"):
        load_network(tmp_path / "list.pt")


def test_safetensors(tmp_path):
    one, two = layers(dtype=torch.float32)
    module = nn.Sequential(one, nn.ReLU(), two)
    path = tmp_path / "net.safetensors"
    save_file(module.state_dict(), path)
    for net in (from_safetensors(path), load_network(path)):
        np.testing.assert_array_equal(net.W, from_torch(module).W)
    save_file({"W": torch.ones(4, 3), "a": torch.ones(4), "output_bias": torch.tensor([2.0])}, path)
    assert from_safetensors(path)(np.ones((1, 3))).tolist() == [14.0]
    save_file({"d.kernel": torch.ones(3, 4), "e.kernel": torch.ones(4, 1)}, path)
    assert from_safetensors(path)(np.ones((1, 3))).tolist() == [12.0]
    save_file({"0.weight": torch.ones(4, 3, 2), "2.weight": torch.ones(1, 4)}, path)
    with pytest.raises(NetworkFormatError, match="must hold the two weight matrices"):
        from_safetensors(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(NetworkFormatError, match="is not a safetensors file, or is truncated"):
        from_safetensors(path)


def test_without_torch_the_sentence_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None; from cvxnn import ReLUNetwork, interop\n"
        "try: interop.to_torch(ReLUNetwork([[1.0]], [1.0]))\n"
        "except ImportError as error: assert 'pip install \"cvxnn[torch]\"' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_interop_loads_no_optional_package():
    heavy = {"torch", "onnx", "sklearn", "safetensors"}
    code = f"import sys, cvxnn.interop; bad = {heavy!r} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True)
