"""The names of ``torch.utils.data``; all of them, and more, are in :mod:`pydl.data`."""

from __future__ import annotations

from pydl.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split

__all__ = ["ConcatDataset", "DataLoader", "Dataset", "Subset", "TensorDataset", "default_collate", "random_split"]
