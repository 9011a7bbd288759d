"""Networks in files, told apart by their endings and contents. Loading a file runs no code."""

from __future__ import annotations

from pathlib import Path

from cvxnn.interop.model_file import load_model
from cvxnn.interop.onnx_networks import read_onnx
from cvxnn.interop.safetensors_networks import read_safetensors
from cvxnn.interop.torch_networks import read_torch_file
from cvxnn.interop.two_layer import TwoLayerWeights
from cvxnn.programs.dispatch import Network

__all__ = ["is_foreign", "load_network", "read_network_file"]

_TORCH = (".pt", ".pth", ".ckpt")


def load_network(path: str | Path) -> Network:
    r"""Network of a file: a model of cvxnn, safetensors, an ONNX model, or a PyTorch checkpoint of tensors.

    The ending decides (.onnx, .pt, .pth, .ckpt, .safetensors); other endings are taken as models of cvxnn.

    Parameters
    ----------
    path : str or Path
        File to read.

    Returns
    -------
    ReLUNetwork or a relative
        Of a model of cvxnn without its preprocessing: the network sees the encoded columns and a column of ones.
        Other files hold ReLU networks.
        A hidden bias of other files is its last input weight.

    Raises
    ------
    ModelFileError, NetworkFormatError
        If the file is missing or damaged, or holds something else.
    ImportError
        If PyTorch or onnx is needed and not installed.

    Examples
    --------
    >>> import tempfile
    >>> from cvxnn import ReLUNetwork
    >>> from cvxnn.interop.onnx_networks import to_onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = to_onnx(ReLUNetwork([[1.0, 2.0]], [3.0]), f"{folder}/net.onnx")
    ...     load_network(f"{folder}/net.onnx")
    ReLUNetwork(width=1, n_features=2, n_outputs=1)
    """
    return read_network_file(path).network if is_foreign(path) else load_model(path).network


def read_network_file(path: str | Path) -> TwoLayerWeights:
    """Weights of a file of another library, with the biases kept apart."""
    ending = Path(path).suffix.lower()
    if ending == ".onnx":
        return read_onnx(path)
    return read_torch_file(path) if ending in _TORCH else read_safetensors(path)


def is_foreign(path: str | Path) -> bool:
    """Whether the file is of another library than cvxnn."""
    ending = Path(path).suffix.lower()
    if ending == ".safetensors" and Path(path).is_file():
        return _is_plain_safetensors(Path(path))
    return ending in (".onnx", *_TORCH)


def _is_plain_safetensors(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as stream:
            return "cvxnn" not in (stream.metadata() or {})
    except (SafetensorError, OSError, UnicodeDecodeError):
        # The reader of models says what is wrong with it.
        return False
