"""SnapshotWeights: the weights at each minimum of a cyclic learning rate, for ensembles and averages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl.callbacks.base import Callback
from pydl.callbacks.learning_rate import get_learning_rate
from pydl.train.arguments import whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from pydl import Tensor
    from pydl.callbacks.base import Logs

__all__ = ["SnapshotWeights"]


class SnapshotWeights(Callback):
    """Keeps the weights whenever the learning rate has fallen and is about to rise again: one model for each cycle.

    Huang et al., "Snapshot ensembles: train 1, get M for free", arXiv:1704.00109 (2017). A schedule by step or by
    epoch does it, such as ``optim.lr_scheduler.CosineAnnealingWarmRestarts``. The end of the training counts too, if
    the rate is at its lowest there or its cycle ends.

    Args:
        folder: where each is written as ``snapshot-001.safetensors``; made where it is missing. Default: nowhere.
        keep: how many of the last ones are kept in memory; default all.

    Attributes:
        weights: a dict name -> tensor for each snapshot, of parameters and buffers.
        steps: the optimizer steps that had been made.

    >>> from pydl.callbacks import SnapshotWeights
    >>> snapshots = SnapshotWeights(keep=5)

    After ``fit(..., callbacks=[snapshots])``, ``snapshots.predict(x)`` is the ensemble's prediction, and
    ``model.load_state_dict(snapshots.average())`` makes one model of them.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, keep: int | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"[SnapshotWeights] {self.folder} is a file, expected a folder")
        self.keep = whole_number("SnapshotWeights", "keep", keep, 1, none=True)
        self._resumed = False
        self._reset()

    def _reset(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.steps: list[int] = []
        self._count = 0
        self._last: float | None = None
        self._lowest: float | None = None
        self._fell = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget the fit before, unless this one was resumed."""
        if not self._resumed:
            self._reset()
        self._resumed = False

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Look whether the step to come has a higher rate than the one before."""
        if self._rises():
            self._take()

    def _rises(self) -> bool:
        rate, last = get_learning_rate(self.trainer.optimizer), self._last
        self._last = rate
        self._lowest = rate if self._lowest is None else min(rate, self._lowest)
        if last is None or rate == last:
            return False
        if rate < last:
            self._fell = True
            return False
        fell, self._fell = self._fell, False
        return fell

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """The end of the training is the end of a cycle, if it is."""
        if epoch + 1 != self.params.get("epochs"):
            return
        ends = self._rises()
        if ends or (self._fell and self._last == self._lowest):
            self._take()
            self._fell = False

    def _take(self) -> None:
        state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self._count += 1
        self.weights.append(state)
        self.steps.append(self.trainer.step)
        if self.keep is not None:
            del self.weights[: -self.keep], self.steps[: -self.keep]
        if self.folder is not None:
            from pydl.serialization import save_file

            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(state, self.folder / f"snapshot-{self._count:03d}.safetensors", {"step": str(self.trainer.step)})

    def _check_any(self, name: str) -> None:
        if not self.weights:
            raise ValueError(
                f"[SnapshotWeights.{name}] there is no snapshot; the learning rate has to fall and rise again"
            )

    def average(self) -> dict[str, Tensor]:
        """The mean of all snapshots' parameters and buffers; counters are the last one's.

        Statistics of batch normalization are averaged too; ``optim.swa_utils.update_bn`` makes better ones.

        Raises:
            ValueError: there is no snapshot.
        """
        self._check_any("average")
        averaged = {}
        for name, last in self.weights[-1].items():
            if not last.dtype.is_floating_point:
                averaged[name] = last.clone()
                continue
            total = sum((state[name].astype(pydl.float64) for state in self.weights[1:]), self._first(name))
            averaged[name] = (total / len(self.weights)).astype(last.dtype)
        return averaged

    def _first(self, name: str) -> Any:
        return self.weights[0][name].astype(pydl.float64)

    def models(self) -> Iterator[Any]:
        """The model with the weights of one snapshot after another; afterwards it has its own again."""
        self._check_any("models")
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        try:
            for state in self.weights:
                self.model.load_state_dict(state)
                yield self.model
        finally:
            self.model.load_state_dict(own)

    def predict(self, x: Any, function: Callable[[np.ndarray], Any] | None = None, **options: Any) -> np.ndarray:
        """The mean of what the snapshots predict.

        Args:
            x: as for ``Trainer.predict``.
            function: of each prediction before the mean is taken, such as a softmax; default none.
            options: for ``Trainer.predict``.

        Raises:
            ValueError: there is no snapshot.
        """
        self._check_any("predict")
        total: Any = 0.0
        for _ in self.models():
            prediction = self.trainer.predict(x, **options)
            total = total + np.asarray(prediction if function is None else function(prediction))
        return total / len(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The snapshots, and where the learning rate was."""
        state: dict[str, Any] = {"weights": list(self.weights), "steps": list(self.steps), "count": self._count}
        return {**state, "last": self._last, "lowest": self._lowest, "fell": self._fell}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on looking."""
        self.weights = [{name: tensor.clone() for name, tensor in each.items()} for each in state["weights"]]
        self.steps, self._count = list(state["steps"]), state["count"]
        self._last, self._lowest, self._fell = state["last"], state["lowest"], state["fell"]
        self._resumed = True
