"""Exchange with files and other libraries: tables and model files here, each reader imported on first use."""

from __future__ import annotations
