"""Exchange with files and other libraries. Optional packages are imported where they are first needed."""

from __future__ import annotations

from cvxnn.interop.judging import JudgedNetwork as JudgedNetwork
from cvxnn.interop.judging import judge as judge
from cvxnn.interop.judging import judge_sklearn as judge_sklearn
from cvxnn.interop.judging import judge_torch as judge_torch
from cvxnn.interop.model import Model as Model
from cvxnn.interop.model_file import ModelFileError as ModelFileError
from cvxnn.interop.model_file import load_model as load_model
from cvxnn.interop.model_file import save_model as save_model
from cvxnn.interop.network_files import load_network as load_network
from cvxnn.interop.onnx_networks import from_onnx as from_onnx
from cvxnn.interop.onnx_networks import to_onnx as to_onnx
from cvxnn.interop.safetensors_networks import from_safetensors as from_safetensors
from cvxnn.interop.sklearn_networks import from_sklearn as from_sklearn
from cvxnn.interop.tables import Table as Table
from cvxnn.interop.tables import TableError as TableError
from cvxnn.interop.tables import read_table as read_table
from cvxnn.interop.torch_networks import from_torch as from_torch
from cvxnn.interop.torch_networks import to_torch as to_torch
from cvxnn.interop.two_layer import MissingExtraError as MissingExtraError
from cvxnn.interop.two_layer import NetworkFormatError as NetworkFormatError
from cvxnn.interop.two_layer import TwoLayerWeights as TwoLayerWeights
from cvxnn.interop.weight_decay import TrainingObjective as TrainingObjective
from cvxnn.interop.weight_decay import sklearn_objective as sklearn_objective
from cvxnn.interop.weight_decay import torch_objective as torch_objective
