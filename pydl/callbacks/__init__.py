"""What happens beside a training: stopping it, saving it, steering its rate, watching it. Keras's names and arguments.

>>> from pydl import callbacks
>>> stop = callbacks.EarlyStopping("val_loss", patience=3)
>>> save = callbacks.ModelCheckpoint("best.safetensors", save_best_only=True, save_weights_only=True)

They are given to ``Trainer.fit(..., callbacks=[stop, save])`` and called in that order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import Callback, CallbackList
from pydl.callbacks.csv_logger import CSVLogger
from pydl.callbacks.early_stopping import EarlyStopping
from pydl.callbacks.gradient_health import GradientHealth
from pydl.callbacks.lambda_callback import LambdaCallback
from pydl.callbacks.learning_rate_scheduler import LearningRateScheduler
from pydl.callbacks.model_checkpoint import ModelCheckpoint
from pydl.callbacks.progress_bar import ProgressBar
from pydl.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from pydl.callbacks.snapshot_weights import SnapshotWeights
from pydl.callbacks.tensorboard import TensorBoard
from pydl.callbacks.terminate_on_nan import TerminateOnNaN
from pydl.nn.arguments import explain_constructor

if TYPE_CHECKING:
    from pydl.train.history import History

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "GradientHealth",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "SnapshotWeights",
    "TensorBoard",
    "TerminateOnNaN",
]


for _each in (CSVLogger, EarlyStopping, GradientHealth, LearningRateScheduler, ModelCheckpoint, ProgressBar,
              ReduceLROnPlateau, SnapshotWeights, TensorBoard):  # fmt: skip
    explain_constructor(_each, False)


def __getattr__(name: str) -> Any:
    if name == "History":  # it is a Callback itself, so it cannot be imported above
        from pydl.train.history import History

        return History
    raise AttributeError(f"module 'pydl.callbacks' has no attribute {name!r}")
