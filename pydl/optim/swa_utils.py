"""Averages of a model's weights: exponential (EMA), of all steps (Polyak), of the ends of epochs (SWA)."""

from __future__ import annotations

import math
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn.module import Module
from pydl.optim.lr_scheduler.base import LRScheduler, check_optimizer, one_per_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydl import Tensor
    from pydl.optim.optimizer import Optimizer

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """The exponential moving average a ← decay·a + (1 - decay)·w, of many tensors in one fused call.

    Raises:
        ValueError: decay is not in [0, 1].
    """
    _check_decay(decay)

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Any) -> None:
        _blend(averaged, current, 1.0 - decay)

    return update


def get_swa_multi_avg_fn() -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    """The plain average a ← a + (w - a)/(n + 1), of many tensors in one fused call; n averaged before."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Any) -> None:
        _blend(averaged, current, 1.0 / (int(num_averaged) + 1))

    return update


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """As :func:`get_ema_multi_avg_fn`, of one tensor, which is returned."""
    _check_decay(decay)
    return lambda averaged, current, num_averaged: decay * averaged + (1 - decay) * current


def get_swa_avg_fn() -> Callable[[Tensor, Tensor, Any], Tensor]:
    """As :func:`get_swa_multi_avg_fn`, of one tensor, which is returned."""
    return lambda averaged, current, num_averaged: averaged + (current - averaged) / (int(num_averaged) + 1)


class AveragedModel(Module):
    """A copy of a model whose weights are an average of those that the model had, for use at test time.

    - Polyak averaging: ``update_parameters`` after every step, the default average. Polyak and Juditsky,
      "Acceleration of stochastic approximation by averaging" (1992).
    - SWA: after every epoch, late in a training with a constant or cyclic rate (:class:`SWALR`). Izmailov et al.,
      "Averaging weights leads to wider optima and better generalization", arXiv:1803.05407 (2018).
    - EMA: after every step, with ``multi_avg_fn=get_ema_multi_avg_fn(0.999)``.

    The statistics of batch normalization were made with other weights than the average. The choices: keep the
    model's last ones (the default), average them too (``use_buffers=True``), or make new ones from data with
    :func:`update_bn` when the average is done, which is best and costs one pass.

    Args:
        model: what is copied; its weights count from the first ``update_parameters`` on.
        device: where the copy lives; default where the model does.
        avg_fn: a function of (average, weight, how many were averaged) that gives the new average.
        multi_avg_fn: one of (averages, weights, how many were averaged), lists, that changes the averages; default the
            plain average.
        use_buffers: average the buffers too; default False, they are copied.

    >>> import pydl
    >>> from pydl import nn
    >>> model = nn.Linear(1, 1, bias=False)
    >>> averaged = AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = nn.init.constant_(model.weight, value)
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item(), averaged.n_averaged.item()
    (3.0, 3)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
        multi_avg_fn: Callable[[Sequence[Tensor], Sequence[Tensor], Any], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("[AveragedModel] got avg_fn and multi_avg_fn, expected one of them")
        if not isinstance(model, Module):
            raise TypeError(f"[AveragedModel] got a {type(model).__name__}, expected the model to average")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", pydl.zeros((), dtype=pydl.int64))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's present weights into the average.

        Raises:
            ValueError: the model's parameters are not those of the one that was copied.
        """
        ours, theirs = list(self.module.parameters()), list(model.parameters())
        our_buffers, their_buffers = list(self.module.buffers()), list(model.buffers())
        shapes, expected = ([tuple(p.shape) for p in params] for params in (theirs, ours))
        if shapes != expected:
            raise ValueError(f"[AveragedModel] got a model with parameters of shapes {shapes}, expected {expected}")
        count = int(self.n_averaged.item())
        averaged, current = [p.detach() for p in ours], [p.detach() for p in theirs]
        with pydl.no_grad():
            if self.use_buffers:
                averaged, current = averaged + our_buffers, current + their_buffers
            else:
                for buffer, value in zip(our_buffers, their_buffers, strict=True):
                    buffer.copy_(value)
            if count == 0:
                for average, value in zip(averaged, current, strict=True):
                    average.copy_(value)
            elif self.avg_fn is not None:
                for average, value in zip(averaged, current, strict=True):
                    average.copy_(self.avg_fn(average, value, self.n_averaged))
            else:
                (self.multi_avg_fn or get_swa_multi_avg_fn())(averaged, current, self.n_averaged)
            self.n_averaged.copy_(self.n_averaged + 1)

    @contextmanager
    def swapped_into(self, model: Module) -> Iterator[Module]:
        """Within the block, the model has the averaged weights and buffers; afterwards its own again.

        >>> from pydl import nn
        >>> model = nn.Linear(3, 2)
        >>> with AveragedModel(model).swapped_into(model) as averaged:
        ...     averaged is model
        True
        """
        tensors = [*model.parameters(), *model.buffers()]
        own = [tensor.detach().clone() for tensor in tensors]
        try:
            _copy_all([*self.module.parameters(), *self.module.buffers()], tensors)
            yield model
        finally:
            _copy_all(own, tensors)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Make the statistics of batch normalization anew, as plain averages over one pass of the data.

    Args:
        loader: batches; of a tuple or list the first element is the input.
        model: run in training mode, without gradients; its mode and momenta are restored.
        device: where inputs are moved; default they stay.
    """
    layers: list[Any] = [module for module in model.modules() if _is_batch_norm(module)]
    momenta = [layer.momentum for layer in layers]
    if not layers:
        return
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        for layer in layers:
            layer.training = True  # frozen ones too
            layer.reset_running_stats()
            layer.momentum = None
        with pydl.no_grad():
            for batch in loader:
                inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(inputs if device is None else inputs.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training


class SWALR(LRScheduler):
    """Goes from the present rate to ``swa_lr`` in ``anneal_epochs`` steps and stays there.

    Args:
        optimizer: whose rates it sets.
        swa_lr: the last rate, or one for each group.
        anneal_epochs: default 10.
        anneal_strategy: ``"cos"`` (default) or ``"linear"``.
        last_epoch, unit: see :class:`LRScheduler`.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0)
    >>> schedule = SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> rates = []
    >>> for epoch in range(4):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.75, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        check_optimizer("SWALR", optimizer)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"[SWALR] got anneal_strategy={anneal_strategy!r}, expected 'cos' or 'linear'")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"[SWALR] got anneal_epochs {anneal_epochs!r}, expected an integer, 0 or more")
        for group, rate in zip(
            optimizer.param_groups, one_per_group("SWALR", "swa_lr", optimizer, swa_lr), strict=True
        ):
            group["swa_lr"] = rate
        self.anneal_epochs = anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch, unit=unit)

    def _share(self, step: int) -> float:
        share = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2

    def get_lr(self) -> list[float]:
        """The rates on the way from where the last ones came from to swa_lr."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            rate, last = float(group["lr"]), float(group["swa_lr"])
            start = last if before == 1 else (rate - before * last) / (1 - before)
            rates.append(last * now + start * (1 - now))
        return rates


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"[get_ema_avg_fn] got decay {decay}, expected 0 to 1")


def _blend(averaged: Sequence[Tensor], current: Sequence[Tensor], weight: float) -> None:
    floating = [a.dtype.is_floating_point for a in averaged]
    _C.blend_(
        [a for a, use in zip(averaged, floating, strict=True) if use],
        [w for w, use in zip(current, floating, strict=True) if use],
        weight,
    )
    for average, value, use in zip(averaged, current, floating, strict=True):
        if not use:  # counters
            wide = average.astype(pydl.float64)
            average.copy_((wide + weight * (value.astype(pydl.float64) - wide)).astype(average.dtype))


def _copy_all(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    with pydl.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value.detach())


def _is_batch_norm(module: Module) -> bool:
    named = any("BatchNorm" in base.__name__ for base in type(module).__mro__)
    return named and getattr(module, "running_mean", None) is not None
