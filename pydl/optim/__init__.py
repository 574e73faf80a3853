"""Optimizers, learning-rate schedules and averages of weights. Arguments, names and defaults are PyTorch's."""

from __future__ import annotations

from typing import Any

from pydl.optim import lr_scheduler
from pydl.optim.adafactor import Adafactor
from pydl.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from pydl.optim.adaptive import Adadelta, Adagrad, Lion, RMSprop, Rprop
from pydl.optim.lbfgs import LBFGS
from pydl.optim.muon import Muon
from pydl.optim.optimizer import Optimizer
from pydl.optim.sgd import ASGD, SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
    "swa_utils",
]


def __getattr__(name: str) -> Any:
    """swa_utils needs pydl.nn, which optimizers do without: it is imported when first used."""
    if name == "swa_utils":
        from importlib import import_module

        return import_module("pydl.optim.swa_utils")
    raise AttributeError(f"module 'pydl.optim' has no attribute {name!r}")
