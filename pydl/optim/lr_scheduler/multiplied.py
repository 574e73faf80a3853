"""Schedules that multiply: each step's rate is the last one times a factor, so that several can be chained."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any

from pydl.optim.lr_scheduler.base import LRScheduler, check_number, function_state, load_function_state, one_per_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydl.optim.optimizer import Optimizer

__all__ = [
    "ConstantLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
    "WarmupLR",
]


class _Multiplied(LRScheduler):
    """lr_t = lr_{t-1}·ratio(t), and lr_0 = base·ratio(0). In all, lr_t = base·total(t)."""

    def _ratio(self, t: int) -> float:
        raise NotImplementedError

    def _total(self, t: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        ratio = self._ratio(self.last_epoch)
        return [rate * ratio for rate in self._rates()]

    def _lr_at_jump(self) -> list[float]:
        total = self._total(self.last_epoch)
        return [base * total for base in self.base_lrs]


class _WithFunctions(LRScheduler):
    """A function of the step for each group."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        name = type(self).__name__
        self.lr_lambdas = one_per_group(name, "lr_lambda", optimizer, lr_lambda)
        for function in self.lr_lambdas:
            if not callable(function):
                raise TypeError(
                    f"[{name}] got a {type(function).__name__} as lr_lambda, expected a function of the step"
                )
        super().__init__(optimizer, last_epoch, unit=unit)

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`LRScheduler.state_dict`; of the functions only the attributes of objects are kept."""
        return {**super().state_dict(), "lr_lambdas": [function_state(function) for function in self.lr_lambdas]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; plain functions stay those that were given."""
        super().load_state_dict(state_dict)
        for function, state in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            load_function_state(function, state)


class LambdaLR(_WithFunctions):
    """lr_t = base·f(t) for a function f of the step.

    Args:
        optimizer: whose rates it sets.
        lr_lambda: f, or one for each group.
        last_epoch, unit: see :class:`LRScheduler`.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=0.5)
    >>> LambdaLR(optimizer, lambda t: 1 / (t + 2)).get_last_lr()
    [0.25]
    """

    def get_lr(self) -> list[float]:
        """base·f(t)."""
        return [f(self.last_epoch) * base for f, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]


class MultiplicativeLR(_WithFunctions):
    """lr_t = lr_{t-1}·f(t) for a function f of the step t = 1, 2, ...

    Args:
        optimizer: whose rates it sets.
        lr_lambda: f, or one for each group.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def get_lr(self) -> list[float]:
        """lr·f(t)."""
        if self._is_initial:
            return self._rates()
        return [rate * f(self.last_epoch) for f, rate in zip(self.lr_lambdas, self._rates(), strict=True)]


class StepLR(_Multiplied):
    """Multiplies the rate by ``gamma`` every ``step_size`` steps: lr_t = base·gamma^⌊t/step_size⌋.

    Args:
        optimizer: whose rates it sets.
        step_size: how often.
        gamma: default 0.1.
        last_epoch, unit: see :class:`LRScheduler`.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for epoch in range(5):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1, *, unit: str = "epoch"
    ) -> None:
        check_number("StepLR", "step_size", step_size)
        if step_size < 1:
            raise ValueError(f"[StepLR] got step_size {step_size}, expected 1 or more")
        self.step_size = step_size
        check_number(type(self).__name__, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        return self.gamma if t != 0 and t % self.step_size == 0 else 1.0

    def _total(self, t: int) -> float:
        return float(self.gamma ** (t // self.step_size))


class MultiStepLR(_Multiplied):
    """Multiplies the rate by ``gamma`` at each of the steps ``milestones``.

    Args:
        optimizer: whose rates it sets.
        milestones: steps; one that comes twice counts twice.
        gamma: default 0.1.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        if isinstance(milestones, (int, float, str)):
            raise TypeError(f"[MultiStepLR] got milestones {milestones!r}, expected a list of steps: [30, 80]")
        self.milestones = Counter(milestones)
        check_number(type(self).__name__, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        return float(self.gamma ** self.milestones[t]) if t in self.milestones else 1.0

    def _total(self, t: int) -> float:
        return float(self.gamma ** bisect_right(sorted(self.milestones.elements()), t))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.milestones = Counter({int(t): count for t, count in self.milestones.items()})  # JSON's keys are texts


class ConstantLR(_Multiplied):
    """base·factor for the first ``total_iters`` steps, base afterwards.

    Args:
        optimizer: whose rates it sets.
        factor: 0 to 1; default 1/3.
        total_iters: default 5.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"[ConstantLR] got factor {factor}, expected 0 to 1")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch, unit=unit)

    def get_lr(self) -> list[float]:
        """lr times factor at the first step, over factor at the last."""
        if self.factor == 0 and self.last_epoch == self.total_iters != 0:
            return list(self.base_lrs)
        return super().get_lr()

    def _ratio(self, t: int) -> float:
        if t == 0:
            return self.factor
        return 1.0 / self.factor if t == self.total_iters else 1.0

    def _total(self, t: int) -> float:
        return 1.0 if t >= self.total_iters else self.factor


class LinearLR(_Multiplied):
    """From base·start_factor to base·end_factor in ``total_iters`` equal steps, constant afterwards.

    Args:
        optimizer: whose rates it sets.
        start_factor: above 0, up to 1; default 1/3.
        end_factor: 0 to 1; default 1.
        total_iters: default 5.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"[LinearLR] got start_factor {start_factor}, expected above 0 and up to 1; see WarmupLR")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"[LinearLR] got end_factor {end_factor}, expected 0 to 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        if t == 0:
            return self.start_factor
        if self._is_initial or t > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return max(0.0, 1.0 + rise / (self.total_iters * self.start_factor + (t - 1) * rise))  # no -1e-18 at the end

    def _total(self, t: int) -> float:
        return self.start_factor + (self.end_factor - self.start_factor) * min(self.total_iters, t) / self.total_iters


class WarmupLR(_Multiplied):
    """A linear warm-up: lr_t = base·(start_factor + (1 - start_factor)·min(1, (t + 1)/total_iters)).

    Step total_iters - 1 is the first with the whole rate. For a schedule after it, put both into a
    :class:`SequentialLR` with the milestone ``total_iters``, or into a :class:`ChainedScheduler`, where both act from
    the beginning. Goyal et al., "Accurate, large minibatch SGD", arXiv:1706.02677 (2017).

    Args:
        optimizer: whose rates it sets.
        total_iters: steps of the warm-up.
        start_factor: 0 to 1; default 0.
        last_epoch, unit: see :class:`LRScheduler`; the unit's default here is ``"step"``.

    >>> import pydl
    >>> from pydl import optim
    >>> optimizer = optim.SGD([pydl.ones((1,), requires_grad=True)], lr=1.0)
    >>> schedule = WarmupLR(optimizer, total_iters=4)
    >>> rates = []
    >>> for step in range(5):
    ...     rates += schedule.get_last_lr()
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int,
        start_factor: float = 0.0,
        last_epoch: int = -1,
        *,
        unit: str = "step",
    ) -> None:
        if not 0 <= start_factor <= 1:
            raise ValueError(f"[WarmupLR] got start_factor {start_factor}, expected 0 to 1")
        if total_iters < 1:
            raise ValueError(f"[WarmupLR] got total_iters {total_iters}, expected 1 or more")
        self.total_iters = total_iters
        self.start_factor = start_factor
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        if t == 0:
            return self._total(0)
        return 1.0 if self._is_initial else self._total(t) / self._total(t - 1)

    def _total(self, t: int) -> float:
        return self.start_factor + (1.0 - self.start_factor) * min(1.0, (t + 1) / self.total_iters)


class ExponentialLR(_Multiplied):
    """lr_t = base·gammaᵗ.

    Args:
        optimizer: whose rates it sets.
        gamma: factor of each step.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1, *, unit: str = "epoch") -> None:
        check_number(type(self).__name__, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        return 1.0 if self._is_initial else self.gamma

    def _total(self, t: int) -> float:
        return float(self.gamma**t)


class PolynomialLR(_Multiplied):
    """lr_t = base·(1 - t/total_iters)^power, 0 from ``total_iters`` on.

    Args:
        optimizer: whose rates it sets.
        total_iters: default 5.
        power: default 1.
        last_epoch, unit: see :class:`LRScheduler`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
        *,
        unit: str = "epoch",
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch, unit=unit)

    def _ratio(self, t: int) -> float:
        if self._is_initial or t > self.total_iters:
            return 1.0
        return float(((self.total_iters - t) / (self.total_iters - t + 1)) ** self.power)

    def _total(self, t: int) -> float:
        return float((1.0 - min(self.total_iters, t) / self.total_iters) ** self.power)
