"""What all schedules share: base rates, counting, state."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pydl.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LRScheduler", "check_optimizer", "check_unit", "function_state", "load_function_state", "one_per_group"]


class LRScheduler:
    """Base of all schedules: sets the groups' ``"lr"`` to what :meth:`get_lr` gives, once when made and at each step.

    Args:
        optimizer: whose groups it changes. The rates it finds are kept in them as ``"initial_lr"``.
        last_epoch: the step to go on from, for groups that have ``"initial_lr"``; default -1, a beginning.
        unit: ``"epoch"`` (default) or ``"step"``: how often a training loop is to step it.

    Attributes:
        base_lrs: the rates of the groups at the beginning.
        last_epoch: steps so far.

    Raises:
        TypeError: ``optimizer`` is none.
        ValueError: ``last_epoch`` is 0 or more and a group has no ``"initial_lr"``, or ``unit`` is unknown.
    """

    unit = "epoch"
    _is_initial = False
    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, *, unit: str = "epoch") -> None:
        name = type(self).__name__
        check_optimizer(name, optimizer)
        self.unit = check_unit(name, unit)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"[{name}] got last_epoch={last_epoch}, but group {i} has no 'initial_lr': load the optimizer's "
                    "state before the schedule is made, or leave last_epoch out"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates of the groups at the step ``last_epoch``, made from those that they have or had at first."""
        raise NotImplementedError(f"[{type(self).__name__}] has no get_lr method; define one")

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set, one for each group."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, or to the step ``epoch``."""
        if self._step_count == 1 and not self.optimizer._stepped and type(self.optimizer).step is Optimizer.step:
            warnings.warn(
                f"[{type(self).__name__}] step() was called before optimizer.step(), so the first rate is never used; "
                "call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set(self.get_lr() if epoch is None else self._lr_at_jump())

    def _lr_at_jump(self) -> list[float]:
        """The rates at ``last_epoch`` where that was not the next one: without those before, where there is a way."""
        return self.get_lr()

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from, as numbers, texts and lists. Functions that were given are left out."""
        return {name: value for name, value in self.__dict__.items() if name not in self._not_saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`. The rates themselves are in the optimizer's state."""
        if not isinstance(state_dict, dict) or self.__dict__.keys().isdisjoint(state_dict):
            got = list(state_dict) if isinstance(state_dict, dict) else type(state_dict).__name__
            raise ValueError(f"[{type(self).__name__}] got {got!s:.200}, expected what state_dict() gave")
        self.__dict__.update({name: value for name, value in state_dict.items() if name not in self._not_saved})


def check_optimizer(name: str, optimizer: Any) -> None:
    """Raise TypeError unless it is an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"[{name}] got a {type(optimizer).__name__} as optimizer, expected an Optimizer")


def check_number(name: str, what: str, value: Any) -> None:
    """Raise TypeError unless it is a number, such as the factor of a schedule."""
    try:
        float(value)
    except (TypeError, ValueError):
        raise TypeError(f"[{name}] got {what} {value!r}, expected a number") from None


def check_unit(name: str, unit: str) -> str:
    """The unit, or ValueError."""
    if unit not in ("epoch", "step"):
        raise ValueError(f"[{name}] got unit={unit!r}, expected 'epoch' or 'step'")
    return unit


def one_per_group(name: str, what: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """A value for each group: the same for all, or those of a list."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"[{name}] got {len(value)} values of {what}, expected one for each of {count} groups")
    return list(value)


def function_state(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    """What can be saved of a callable: an object's attributes; nothing of a plain function."""
    if function is None or not hasattr(function, "__dict__") or hasattr(function, "__code__"):
        return None
    return dict(function.__dict__)


def load_function_state(function: Any, state: dict[str, Any] | None) -> None:
    """The reverse of :func:`function_state`."""
    if state is not None:
        function.__dict__.update(state)
