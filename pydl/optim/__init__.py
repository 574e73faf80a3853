"""Optimizers, learning-rate schedules and averages of weights. Arguments, names and defaults are PyTorch's."""

from __future__ import annotations

from pydl.optim import lr_scheduler
from pydl.optim.adafactor import Adafactor
from pydl.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam, SparseAdam
from pydl.optim.adaptive import Adadelta, Adagrad, Lion, RMSprop, Rprop
from pydl.optim.lbfgs import LBFGS
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
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
]
