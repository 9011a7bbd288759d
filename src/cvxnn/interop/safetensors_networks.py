"""Networks in plain safetensors files: named arrays, no code."""

from __future__ import annotations

from pathlib import Path

from cvxnn.interop.two_layer import NetworkFormatError, TwoLayerWeights, weights_of_tensors
from cvxnn.networks import ReLUNetwork

__all__ = ["from_safetensors", "read_safetensors"]


def from_safetensors(path: str | Path) -> ReLUNetwork:
    r"""Network of a safetensors file that holds two weight matrices and up to two biases.

    The file holds no layers, only arrays: that the activation is ReLU is the caller's word.

    Parameters
    ----------
    path : str or Path
        File as written from a PyTorch ``state_dict``, or with the arrays "W" (m, d), "a" (m,) and, if any,
        "hidden_bias" (m,) and "output_bias".

    Returns
    -------
    ReLUNetwork
        A hidden bias is its last input weight: the data have a column of ones at the end.

    Raises
    ------
    NetworkFormatError
        If the file is missing or damaged, or holds other arrays.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"0.weight": np.ones((3, 2)), "2.weight": np.ones((1, 3))}, f"{folder}/net.safetensors")
    ...     from_safetensors(f"{folder}/net.safetensors")
    ReLUNetwork(width=3, n_features=2, n_outputs=1)
    """
    return read_safetensors(path).network


def read_safetensors(path: str | Path) -> TwoLayerWeights:
    """Weights of a plain safetensors file with the biases kept apart (see :func:`from_safetensors`)."""
    from safetensors import SafetensorError, safe_open

    source = str(path)
    if not Path(path).is_file():
        raise NetworkFormatError(f"{source} {'is not a file' if Path(path).exists() else 'does not exist'}.")
    try:
        with safe_open(source, framework="np") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except TypeError as error:
        # NumPy has no bfloat16 and no 8-bit floats.
        raise NetworkFormatError(f"{source} holds arrays of a type that NumPy lacks; save them as float32.") from error
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise NetworkFormatError(f"{source} is not a safetensors file, or is truncated.") from error
    return weights_of_tensors(tensors, source)
