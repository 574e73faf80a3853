"""TerminateOnNaN: no step after a loss that is no number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydl.callbacks.base import Callback

if TYPE_CHECKING:
    from pydl.callbacks.base import Logs

__all__ = ["TerminateOnNaN"]


class TerminateOnNaN(Callback):
    """Stops the training after a batch whose loss is NaN or infinite.

    The trainer looks for that by itself and says where it comes from (``check_finite=True``, the default); this is
    for trainings with ``check_finite=False``. The loss in the logs is a mean over the epoch: it stays not finite.
    """

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            self.trainer.stop_reason = "not finite"
            self.trainer.stop_training = True
