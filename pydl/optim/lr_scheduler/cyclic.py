"""Schedules along a cosine or in cycles: cosine annealing, warm restarts, cyclic, one-cycle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydl.optim.lr_scheduler.base import (
    LRScheduler,
    check_optimizer,
    function_state,
    load_function_state,
    one_per_group,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydl.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


def _cosine(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


class CosineAnnealingLR(LRScheduler):
    """lr_t = eta_min + (base - eta_min)·(1 + cos(πt/T_max))/2; after T_max steps it rises again.

    Computed from the last step's rate, so that it can be chained. Loshchilov and Hutter, "SGDR: Stochastic gradient
    descent with warm restarts", arXiv:1608.03983 (2016), without the restarts.

    Args:
        optimizer: whose rates it sets.
        T_max: steps from the largest rate to the smallest.
        eta_min: the smallest; default 0.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1, *, unit: str = "epoch"
    ) -> None:
        if T_max < 1:
            raise ValueError(f"[CosineAnnealingLR] got T_max {T_max}, expected 1 or more")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch, unit=unit)

    def get_lr(self) -> list[float]:
        """The last rate, moved along the cosine."""
        if self._is_initial:
            return self._rates()
        if self._step_count == 1 and self.last_epoch > 0:
            return self._lr_at_jump()
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        if (self.last_epoch - 1) % (2 * self.T_max) == self.T_max:  # it was eta_min: no ratio leads up again
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                rate + (base - self.eta_min) * rise for rate, base in zip(self._rates(), self.base_lrs, strict=True)
            ]
        ratio = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / before
        return [ratio * (rate - self.eta_min) + self.eta_min for rate in self._rates()]

    def _lr_at_jump(self) -> list[float]:
        return [_cosine(base, self.eta_min, self.last_epoch / self.T_max) for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing that starts anew from the base rate after T_0 steps, then after T_0·T_mult, and so on.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", arXiv:1608.03983 (2016). A snapshot
    taken before each restart makes a member of an ensemble.

    Args:
        optimizer: whose rates it sets.
        T_0: steps until the first restart.
        T_mult: each run is so many times as long as the last; default 1.
        eta_min: the smallest rate; default 0.
        last_epoch, unit: see :class:`LRScheduler`.

    Attributes:
        T_i, T_cur: length of the present run, and steps since its beginning.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        for what, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"[CosineAnnealingWarmRestarts] got {what} {value!r}, expected an integer, 1 or more")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch, unit=unit)

    def get_lr(self) -> list[float]:
        """eta_min + (base - eta_min)·(1 + cos(π·T_cur/T_i))/2."""
        return [_cosine(base, self.eta_min, self.T_cur / self.T_i) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to ``epoch``, which may lie between two: ``step(epoch + i/iterations)``."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"[CosineAnnealingWarmRestarts] got epoch {epoch}, expected 0 or more")
            self.T_i, self.T_cur = self.T_0, epoch
            if self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                while self.T_cur >= self.T_i:
                    self.T_cur -= self.T_i
                    self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())


class _WithMomentum(LRScheduler):
    """Schedules that move the momentum (or β1) against the rate."""

    def _start_momentum(self, base_momentum: Any, max_momentum: Any, last_epoch: int) -> None:
        name, optimizer = type(self).__name__, self.optimizer
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError(
                f"[{name}] {type(optimizer).__name__} has neither momentum nor betas to move; give cycle_momentum=False"
            )
        self.use_beta1 = "betas" in optimizer.defaults
        self.base_momentums = one_per_group(name, "base_momentum", optimizer, base_momentum)
        self.max_momentums = one_per_group(name, "max_momentum", optimizer, max_momentum)
        if last_epoch == -1:
            for i, group in enumerate(optimizer.param_groups):
                group["max_momentum"], group["base_momentum"] = self.max_momentums[i], self.base_momentums[i]
            self._set_momentums(self.max_momentums)

    def _set_momentums(self, momentums: list[float]) -> None:
        for group, momentum in zip(self.optimizer.param_groups, momentums, strict=True):
            if self.use_beta1:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class CyclicLR(_WithMomentum):
    """Up from ``base_lr`` to ``max_lr`` in ``step_size_up`` equal steps and down again, over and over.

    Smith, "Cyclical learning rates for training neural networks", arXiv:1506.01186 (2015).

    Args:
        optimizer: whose rates it sets.
        base_lr, max_lr: the smallest and the largest rate, or one for each group.
        step_size_up: default 2000.
        step_size_down: default ``step_size_up``.
        mode: ``"triangular"`` (default); ``"triangular2"`` halves the height each cycle; ``"exp_range"`` multiplies it
            by gammaᵗ.
        gamma: default 1.
        scale_fn: instead of a mode, a function that the height is multiplied by.
        scale_mode: ``"cycle"`` (default) or ``"iterations"``: what scale_fn is given, counted from 1 and from 0.
        cycle_momentum: move the momentum, or β1, from max_momentum down to base_momentum as the rate rises; default
            True.
        base_momentum, max_momentum: default 0.8 and 0.9.
        last_epoch, unit: see :class:`LRScheduler`; the unit's default here is ``"step"``.
    """

    _not_saved = ("optimizer", "_scale_fn_custom")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
        *,
        unit: str = "step",
    ) -> None:
        check_optimizer("CyclicLR", optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(
                f"[CyclicLR] got mode={mode!r}, expected 'triangular', 'triangular2' or 'exp_range', or a scale_fn"
            )
        self.optimizer = optimizer
        base_lrs = one_per_group("CyclicLR", "base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = rate
        self.max_lrs = one_per_group("CyclicLR", "max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch, unit=unit)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """What the height of a cycle is multiplied by."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular":
            return 1.0
        return float(0.5 ** (x - 1) if self.mode == "triangular2" else self.gamma**x)

    def get_lr(self) -> list[float]:
        """The rates; sets the momentum besides."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        share = 1.0 + self.last_epoch / self.total_size - cycle
        height = share / self.step_ratio if share <= self.step_ratio else (share - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            momentums = zip(self.max_momentums, self.base_momentums, strict=True)
            self._set_momentums([_linear(high, low, height) for high, low in momentums])
        return [_linear(low, high, height) for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`LRScheduler.state_dict`; of a scale_fn only the attributes of an object are kept."""
        return {**super().state_dict(), "_scale_fn_custom": function_state(self._scale_fn_custom)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        load_function_state(self._scale_fn_custom, state_dict.get("_scale_fn_custom"))


class OneCycleLR(_WithMomentum):
    """One cycle: up from max_lr/div_factor to max_lr, down to max_lr/(div_factor·final_div_factor) at the last step.

    Smith and Topin, "Super-convergence", arXiv:1708.07120 (2017); the default, of two phases, is fastai's.

    Args:
        optimizer: whose rates it sets.
        max_lr: the largest rate, or one for each group.
        total_steps: steps of the cycle; or ``epochs`` and ``steps_per_epoch``.
        pct_start: share of the cycle that goes up; default 0.3.
        anneal_strategy: ``"cos"`` (default) or ``"linear"``.
        cycle_momentum: move the momentum, or β1, against the rate; default True.
        base_momentum, max_momentum: default 0.85 and 0.95.
        div_factor, final_div_factor: default 25 and 1e4.
        three_phase: down to the first rate as long as up, then to the smallest; default False.
        last_epoch, unit: see :class:`LRScheduler`; the unit's default here is ``"step"``.

    Raises:
        ValueError: an argument out of its range; a step past the end of the cycle.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0, momentum=0.9)
    >>> OneCycleLR(optimizer, max_lr=0.5, total_steps=10).get_last_lr()[0]  # doctest: +ELLIPSIS
    0.0200000000000000...
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        unit: str = "step",
    ) -> None:
        check_optimizer("OneCycleLR", optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("[OneCycleLR] got no length: give total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ValueError(f"[OneCycleLR] got {total_steps!r} steps in all, expected an integer, 1 or more")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"[OneCycleLR] got pct_start {pct_start}, expected 0 to 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"[OneCycleLR] got anneal_strategy={anneal_strategy!r}, expected 'cos' or 'linear'")
        self.optimizer = optimizer
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        # Each phase: its last step, then the group's options that it goes from and to, of the rate and the momentum.
        top = float(pct_start * total_steps) - 1
        self._phases: list[list[Any]] = [[top, "initial_lr", "max_lr", "max_momentum", "base_momentum"]]
        if three_phase:
            down = float(2 * pct_start * total_steps) - 2
            self._phases += [
                [down, "max_lr", "initial_lr", "base_momentum", "max_momentum"],
                [total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"],
            ]
        else:
            self._phases += [[total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"]]
        rates = one_per_group("OneCycleLR", "max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["initial_lr"] = rate / div_factor
                group["max_lr"] = rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch, unit=unit)

    def get_lr(self) -> list[float]:
        """The rates; sets the momentum besides."""
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"[OneCycleLR] got step {t}, but the cycle has {self.total_steps}; make it longer")
        start: float = 0.0
        for phase in self._phases:
            end: Any = phase[0]
            if t <= end or phase is self._phases[-1]:
                break
            start = end
        share = (t - start) / (end - start)
        anneal = _cosine if self.anneal_strategy == "cos" else _linear
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            self._set_momentums([anneal(group[phase[3]], group[phase[4]], share) for group in groups])
        return [anneal(group[phase[1]], group[phase[2]], share) for group in groups]
