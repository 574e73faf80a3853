"""The moving average of a model's weights during a training, and whose weights the model has at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

if TYPE_CHECKING:
    from pydl import Tensor
    from pydl.nn import Module

__all__ = ["MovingAverage"]


class MovingAverage:
    """An exponential moving average (EMA) that can take the place of the model's own weights for a while.

    Args:
        model: whose weights are averaged, from their present values on.
        decay: a ← decay·a + (1 - decay)·w after each step.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._own: list[Tensor] | None = None
        self._shown: list[Tensor] = []

    def update(self) -> None:
        """Take the model's weights into the average."""
        self.averaged.update_parameters(self.model)

    @property
    def shown(self) -> bool:
        """Whether the model has the averaged weights now."""
        return self._own is not None

    def show(self) -> None:
        """Give the model the averaged weights; its own are kept aside. Before the first step there is no average."""
        if self._own is None and int(self.averaged.n_averaged.item()) > 0:
            self._own = [tensor.detach().clone() for tensor in self._tensors(self.model)]
            _copy(self._tensors(self.averaged.module), self._tensors(self.model))

    def hide(self) -> None:
        """Give the model its own weights back."""
        if self._own is not None:
            _copy(self._own, self._tensors(self.model))
            self._own = None

    def leave(self) -> None:
        """The training ends: the model keeps what it has now, and its own weights wait for the next training."""
        self._shown = [tensor.detach().clone() for tensor in self._tensors(self.model)]

    def come_back(self) -> None:
        """The next training begins: own weights again, unless somebody has changed the model in between."""
        now = self._tensors(self.model)
        unchanged = len(now) == len(self._shown) and all(bool((a == b).all()) for a, b in zip(now, self._shown))
        if self._own is not None and unchanged:
            self.hide()
        self._own, self._shown = None, []

    def forget(self) -> None:
        """The model was given other weights; what it showed before is of no interest any more."""
        self._own, self._shown = None, []

    def own_state(self) -> dict[str, Any]:
        """The model's ``state_dict`` with its own weights, whatever it shows."""
        state = self.model.state_dict()
        if self._own is None:
            return state
        kept = {id(tensor): own for tensor, own in zip(self._tensors(self.model), self._own)}
        with_vars = self.model.state_dict(keep_vars=True)
        return {name: kept.get(id(tensor), state[name]) for name, tensor in with_vars.items()}

    def _tensors(self, model: Module) -> list[Tensor]:
        return [*model.parameters(), *model.buffers()]


def _copy(values: list[Tensor], tensors: list[Tensor]) -> None:
    with pydl.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value.detach())
