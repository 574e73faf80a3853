"""Where PyTorch's programs look for data loading: ``pydl.utils.data.DataLoader``."""

from __future__ import annotations

from pydl.utils import data

__all__ = ["data"]
