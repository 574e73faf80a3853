"""Optimizers. Arguments, names and defaults are PyTorch's."""

from __future__ import annotations

from pydl.optim.adam import Adam, AdamW
from pydl.optim.optimizer import Optimizer
from pydl.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
