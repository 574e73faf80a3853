"""Data: datasets, and the loader that makes batches of them.

>>> import numpy as np, pydl
>>> data = pydl.data.ArrayDataset(np.zeros((100, 3), np.float32), np.arange(100) % 2)
>>> for x, y in pydl.data.DataLoader(data, batch_size=50, shuffle=True, seed=1):
...     print(x.shape, y.shape)
(50, 3) (50,)
(50, 3) (50,)
"""

from typing import Any

from pydl.data import idx, toy
from pydl.data.collate import default_collate, pad_collate
from pydl.data.csv import CSVDataset
from pydl.data.dataset import (
    ArrayDataset,
    CachedDataset,
    ConcatDataset,
    Dataset,
    FunctionDataset,
    MapDataset,
    Subset,
    TensorDataset,
    random_split,
)
from pydl.data.idx import IDXDataset, mnist
from pydl.data.images import ImageFolder
from pydl.data.loader import DataLoader
from pydl.data.sampler import (
    BatchSampler,
    BucketByLength,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StratifiedSampler,
    SubsetRandomSampler,
    SubsetSampler,
    WeightedRandomSampler,
    WeightedSampler,
)
from pydl.data.text import TextDataset

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "BucketByLength",
    "CSVDataset",
    "CachedDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "FunctionDataset",
    "IDXDataset",
    "ImageFolder",
    "MapDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StratifiedSampler",
    "Subset",
    "SubsetRandomSampler",
    "SubsetSampler",
    "TensorDataset",
    "TextDataset",
    "WeightedRandomSampler",
    "WeightedSampler",
    "default_collate",
    "idx",
    "mnist",
    "pad_collate",
    "random_split",
    "toy",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("get_worker_info", "WorkerInfo"):
        return getattr(import_module("pydl.data.workers"), name)
    if name in ("keys", "transforms"):
        return import_module(f"pydl.data.{name}")
    raise AttributeError(f"module 'pydl.data' has no attribute {name!r}")
