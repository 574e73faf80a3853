"""Learning-rate schedules. Names, arguments and values are PyTorch's; ``unit`` says what a step of a schedule is.

A schedule counts its own steps from 0: step 0 is its beginning, and each ``step()`` goes to the next. With
``unit="epoch"``, the default, it is meant to be stepped once an epoch, with ``unit="step"`` after each optimizer step:
a training loop reads the attribute. Loops written by hand call ``step()`` where they want.
"""

from __future__ import annotations

from pydl.optim.lr_scheduler.base import LRScheduler
from pydl.optim.lr_scheduler.combined import ChainedScheduler, SequentialLR
from pydl.optim.lr_scheduler.cyclic import CosineAnnealingLR, CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from pydl.optim.lr_scheduler.multiplied import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    WarmupLR,
)
from pydl.optim.lr_scheduler.plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]
