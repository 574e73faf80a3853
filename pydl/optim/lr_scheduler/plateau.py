"""The schedule that looks at a metric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl.optim.lr_scheduler.base import LRScheduler, check_optimizer, check_unit, one_per_group

if TYPE_CHECKING:
    from pydl.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by ``factor`` when a metric has not improved for more than ``patience`` steps.

    Args:
        optimizer: whose rates it sets.
        mode: ``"min"`` (default) or ``"max"``: what is better.
        factor: below 1; default 0.1.
        patience: steps without improvement that are let pass; default 10.
        threshold: the least change that counts; default 1e-4.
        threshold_mode: ``"rel"`` (default): as a share of the best value; ``"abs"``.
        cooldown: steps after a reduction in which nothing is counted; default 0.
        min_lr: the smallest rate, or one for each group; default 0.
        eps: changes of the rate of this size or less are not made; default 1e-8.
        unit: see :class:`LRScheduler`.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    >>> rates = []
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
    ...     schedule.step(loss)
    ...     rates += schedule.get_last_lr()
    >>> rates
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
        *,
        unit: str = "epoch",
    ) -> None:
        name = "ReduceLROnPlateau"
        check_optimizer(name, optimizer)
        if factor >= 1.0:
            raise ValueError(f"[{name}] got factor {factor}, expected below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"[{name}] got mode={mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"[{name}] got threshold_mode={threshold_mode!r}, expected 'rel' or 'abs'")
        self.unit = check_unit(name, unit)
        self.optimizer = optimizer
        self.min_lrs = one_per_group(name, "min_lr", optimizer, min_lr)
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._rates()

    @property
    def in_cooldown(self) -> bool:
        """Whether the last reduction was less than ``cooldown`` steps ago."""
        return self.cooldown_counter > 0

    def is_better(self, value: float, best: float) -> bool:
        """Whether value improves on best by the threshold."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            return sign * value > sign * best * (1.0 + sign * self.threshold)
        return sign * value > sign * best + self.threshold

    def step(self, metrics: Any = None, epoch: int | None = None) -> None:  # type: ignore[override]
        """Count a step with the metric's new value, a number or a tensor of one element."""
        if metrics is None:
            raise TypeError(
                "[ReduceLROnPlateau] step() got no metric, expected the one to watch: step(validation_loss)"
            )
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(value, self.best):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise ValueError(
                    f"[ReduceLROnPlateau] has {len(self.min_lrs)} values of min_lr, but the optimizer has "
                    f"{len(groups)} groups by now; add to scheduler.min_lrs"
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, least)
            if old - new > self.eps:
                group["lr"] = new
