"""Where PyTorch's programs look for data loading: ``from pydl.utils.data import DataLoader``."""

from __future__ import annotations

__all__: list[str] = []
