"""ONNX: onnxruntime is the truth of what a model computes."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cvxnn import ReLUNetwork
from cvxnn.interop import NetworkFormatError, from_onnx, from_torch, load_network, to_onnx

RNG = np.random.default_rng(0)
W1, B1 = RNG.standard_normal((5, 3)), RNG.standard_normal(5)
W2, B2 = RNG.standard_normal((1, 5)), RNG.standard_normal(1)
X = RNG.standard_normal((30, 3))


def with_ones(data):
    return np.column_stack([data, np.ones(len(data))])


def run(model, data, dtype=np.float64):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: data.astype(dtype)})
    return result.reshape(len(data), -1)


def build(nodes, *, inputs=("X",), outputs=("f",), dims=("n", 3), opset=13, **constants):
    """Model of (type, inputs, output, attributes) with named constants."""
    made = [helper.make_node(kind, ins, [out], **options) for kind, ins, out, options in nodes]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, list(dims)) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("offset", [0.0, -0.5])
@pytest.mark.parametrize("width", [0, 1, 7])
def test_round_trip_and_onnxruntime(tmp_path, dtype, bias, offset, width):
    net = ReLUNetwork(
        RNG.standard_normal((width, 4)).astype(dtype), RNG.standard_normal(width).astype(dtype), output_bias=offset
    )
    model = to_onnx(net, tmp_path / "net.onnx", bias=bias, dtype=dtype)
    data = RNG.standard_normal((20, 4 - bias)).astype(dtype)
    expected = net(with_ones(data) if bias else data)
    tolerance = 1e-13 if dtype is np.float64 else 2e-5
    np.testing.assert_allclose(run(model, data, dtype)[:, 0], expected, rtol=tolerance, atol=tolerance)
    for back in (from_onnx(model), from_onnx(tmp_path / "net.onnx"), load_network(tmp_path / "net.onnx")):
        assert back.output_bias == offset
        if width:
            np.testing.assert_array_equal(back.W, net.W)
            np.testing.assert_array_equal(back.a, net.a)
    assert (tmp_path / "net.onnx").read_bytes() == model.SerializeToString(deterministic=True)


def test_several_outputs_are_written():
    net = ReLUNetwork([[1.0, -1.0], [0.5, 2.0]], [[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    data = RNG.standard_normal((9, 2))
    np.testing.assert_allclose(run(to_onnx(net, dtype=np.float64), data), net(data), rtol=1e-13)


def readable():
    gemm = [("Gemm", ["X", "W", "b"], "z", {"transB": 1}), ("Relu", ["z"], "h", {})]
    end = ("Gemm", ["h", "a", "c"], "f", {"transB": 1})
    plain = {"W": W1, "b": B1, "a": W2, "c": B2}
    turned = plain | {"W": W1.T.copy(), "a": W2.T.copy()}
    yield "gemm", build([*gemm, end], **plain)
    yield (
        "gemm factors",
        build(
            [
                ("Gemm", ["X", "W", "b"], "z", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
                ("Relu", ["z"], "h", {}),
                ("Gemm", ["h", "a", "c"], "f", {"transB": 1}),
            ],
            **plain,
        ),
    )
    matmul = [
        ("MatMul", ["X", "W"], "u", {}),
        ("Add", ["b", "u"], "z", {}),
        ("Relu", ["z"], "h", {}),
        ("MatMul", ["h", "a"], "v", {}),
    ]
    yield "matmul and add", build([*matmul, ("Add", ["v", "c"], "f", {})], **turned)
    yield "scalar bias", build([*matmul, ("Add", ["v", "c"], "f", {})], **(turned | {"b": np.array(0.3)}))
    yield (
        "passing nodes",
        build(
            [
                ("Cast", ["X"], "x0", {"to": TensorProto.DOUBLE}),
                ("Flatten", ["x0"], "x1", {"axis": 1}),
                ("Gemm", ["x1", "W", "b"], "z", {"transB": 1}),
                ("Relu", ["z"], "h0", {}),
                ("Dropout", ["h0"], "h1", {}),
                ("Identity", ["h1"], "h", {}),
                ("Gemm", ["h", "a", "c"], "g", {"transB": 1}),
                ("Reshape", ["g", "shape"], "f", {}),
            ],
            shape=np.array([-1], dtype=np.int64),
            **plain,
        ),
    )
    constant = helper.make_node("Constant", [], ["W"], value=numpy_helper.from_array(W1))
    model = build([*gemm, end], **{name: value for name, value in plain.items() if name != "W"})
    model.graph.node.insert(0, constant)
    yield "constant node", model


@pytest.mark.parametrize(("name", "model"), list(readable()), ids=lambda v: v if isinstance(v, str) else "")
def test_reading_equals_onnxruntime(name, model):
    np.testing.assert_allclose(from_onnx(model)(with_ones(X)), run(model, X)[:, 0], rtol=1e-12, atol=1e-13)


def test_export_of_torch(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(module, (torch.ones(2, 3),), tmp_path / "net.onnx", dynamo=False)
    np.testing.assert_array_equal(load_network(tmp_path / "net.onnx").W, from_torch(module).W)


def refused():
    one = ("Gemm", ["X", "W", "b"], "z", {"transB": 1})
    two = ("Gemm", ["h", "a", "c"], "f", {"transB": 1})
    relu = ("Relu", ["z"], "h", {})
    plain = {"W": W1, "b": B1, "a": W2, "c": B2}
    yield build([one, ("Tanh", ["z"], "h", {}), two], **plain), "holds Tanh; only Linear, ReLU, Linear"
    yield build([one, ("LeakyRelu", ["z"], "h", {}), two], **plain), "holds LeakyRelu"
    yield build([one, relu, (*two[:2], "g", {"transB": 1}), ("Sigmoid", ["g"], "f", {})], **plain), "holds Sigmoid"
    yield (
        build(
            [("Sub", ["X", "m"], "x", {}), ("Gemm", ["x", *one[1][1:]], "z", {"transB": 1}), relu, two], m=X[0], **plain
        ),
        "holds Sub",
    )
    yield build([one, ("Relu", ["z"], "f", {})], **plain), "found Linear, ReLU"
    yield (
        build(
            [
                one,
                relu,
                ("Gemm", ["h", "V"], "k", {}),
                ("Relu", ["k"], "r", {}),
                ("Gemm", ["r", "a"], "f", {"transB": 1}),
            ],
            V=np.eye(5),
            **plain,
        ),
        "found Linear, ReLU, Linear, ReLU, Linear",
    )
    yield build([one, relu, two], **(plain | {"a": np.ones((1, 4))})), "5 hidden neurons but its second layer takes 4"
    yield build([one, relu, two], dims=("n", 2, 6), **plain), "takes rows of 12 numbers but its first layer takes 3"
    yield build([("Gemm", ["X", "W", "b"], "z", {"transA": 1}), relu, two], **plain), "Gemm of another form"
    yield build([one, relu, two], inputs=("X", "Y"), **plain), "has 2 inputs and 1 outputs"
    yield build([one, relu, two], outputs=("h",), **plain), "must return the output of its last layer"
    yield build([one, ("Relu", ["z"], "r", {}), ("Add", ["r", "z"], "h", {}), two], **plain), "not a chain of layers"
    yield (
        build([one, ("Cast", ["z"], "i", {"to": TensorProto.INT64}), ("Relu", ["i"], "h", {}), two], **plain),
        "holds Cast",
    )
    yield (
        build(
            [one, relu, ("Reshape", ["h", "s"], "k", {}), ("Gemm", ["k", "a", "c"], "f", {"transB": 1})],
            s=np.array([-1, 5]),
            **plain,
        ),
        "holds Reshape",
    )
    yield (
        build(
            [("Flatten", ["X"], "x", {"axis": 0}), ("Gemm", ["x", "W", "b"], "z", {"transB": 1}), relu, two], **plain
        ),
        "holds Flatten",
    )
    yield (
        build(
            [one, relu, ("Dropout", ["h", "", "t"], "k", {}), ("Gemm", ["k", "a", "c"], "f", {"transB": 1})],
            t=np.array(True),
            **plain,
        ),
        "holds Dropout",
    )
    yield build([one, ("Relu", ["z"], "h", {"domain": "my.ops"}), two], **plain), "holds my.ops.Relu"
    yield build([one, relu, two], **(plain | {"b": np.full(5, np.nan)})), "NaN or infinite"
    yield build([one, relu, two], **(plain | {"b": np.ones(2)})), r"adds an array of shape \(2,\) to 5 values"
    yield b"not a model", "is not an ONNX model"
    yield b"", "is not an ONNX model|holds no nodes"
    yield 3, "a path, bytes or onnx.ModelProto is accepted; got int"
    yield "/nowhere/net.onnx", "does not exist"


@pytest.mark.parametrize(("model", "message"), list(refused()))
def test_refused_in_one_sentence(model, message):
    with pytest.raises(NetworkFormatError, match=message) as error:
        from_onnx(model)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_options_of_to_onnx():
    net = ReLUNetwork([[1.0]], [1.0])
    with pytest.raises(ValueError, match="dtype must be float32 or float64; got float16"):
        to_onnx(net, dtype=np.float16)
    with pytest.raises(ValueError, match="at least two inputs"):
        to_onnx(net, bias=True)
    onnx.checker.check_model(to_onnx(net))


def test_external_weights(tmp_path):
    model = to_onnx(ReLUNetwork(W1, W2[0]), dtype=np.float64)
    onnx.save_model(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    np.testing.assert_array_equal(from_onnx(tmp_path / "net.onnx").W, W1)
    (tmp_path / "net.data").unlink()
    with pytest.raises(NetworkFormatError, match="lacks its weights"):
        from_onnx(tmp_path / "net.onnx")


def test_without_onnx_the_sentence_names_the_extra():
    code = (
        "import sys; sys.modules['onnx'] = None; from cvxnn import ReLUNetwork, interop\n"
        "try: interop.to_onnx(ReLUNetwork([[1.0]], [1.0]))\n"
        "except ImportError as error: assert 'pip install \"cvxnn[onnx]\"' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
