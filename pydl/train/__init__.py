"""Training: loops that can be stopped at any moment and go on to the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydl.train.anomaly import AnomalyError, NotFinite, detect_anomaly
    from pydl.train.char_lm import CharLMTrainer, DivergedError, SavedRun, TrainingObserver, evaluate
    from pydl.train.char_lm_options import TrainingOptions
    from pydl.train.checkpoint import Checkpoint
    from pydl.train.history import History
    from pydl.train.tracking import StepLogs
    from pydl.train.trainer import Trainer

__all__ = [
    "AnomalyError",
    "CharLMTrainer",
    "Checkpoint",
    "DivergedError",
    "History",
    "NotFinite",
    "SavedRun",
    "StepLogs",
    "Trainer",
    "TrainingObserver",
    "TrainingOptions",
    "detect_anomaly",
    "evaluate",
]

_WHERE = {  # those that are not in char_lm
    "AnomalyError": "anomaly",
    "Checkpoint": "checkpoint",
    "History": "history",
    "NotFinite": "anomaly",
    "StepLogs": "tracking",
    "Trainer": "trainer",
    "TrainingOptions": "char_lm_options",
    "detect_anomaly": "anomaly",
}


def __getattr__(name: str) -> Any:
    """The parts are imported when first used."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(f"pydl.train.{_WHERE.get(name, 'char_lm')}"), name)
    raise AttributeError(f"module 'pydl.train' has no attribute {name!r}")
