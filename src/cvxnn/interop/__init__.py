"""Exchange with files and other libraries. Optional packages are imported where they are first needed."""

from __future__ import annotations

from cvxnn.interop.model import Model as Model
from cvxnn.interop.model_file import ModelFileError as ModelFileError
from cvxnn.interop.model_file import load_model as load_model
from cvxnn.interop.model_file import save_model as save_model
from cvxnn.interop.tables import Table as Table
from cvxnn.interop.tables import TableError as TableError
from cvxnn.interop.tables import read_table as read_table
