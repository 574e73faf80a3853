"""What weights must satisfy after each step, in Keras's words: max-norm, non-negative, unit norm.

layer = nn.Linear(4, 3, kernel_constraint=MaxNorm(3.0))    # or afterwards:
constrain(model, "*.weight", MaxNorm(3.0))
after_each_step(optimizer, model)      # or apply(model) wherever it is wanted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl import _C
from pydl.nn.arguments import explain_constructor
from pydl.nn.freezing import matching_names
from pydl.nn.module import Module
from pydl.optim.optimizer import check_option
from pydl.regularizers import _owned_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl import Tensor
    from pydl.optim import Optimizer
    from pydl.optim.optimizer import StepHook

__all__ = ["Constraint", "MaxNorm", "NonNeg", "UnitNorm", "after_each_step", "apply", "constrain"]

AnyModule = TypeVar("AnyModule", bound=Module)
_TINY = 1e-7


class Constraint:
    """Base of all constraints: calling one with a tensor gives the nearest allowed tensor of its shape, or near it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__ and "__init__" in cls.__dict__:
            explain_constructor(cls, attachable=False)

    def __call__(self, w: Tensor) -> Tensor:
        """A tensor of the same shape that satisfies the constraint."""
        raise NotImplementedError(f"[{type(self).__name__}] has no __call__ method; define one")


class MaxNorm(Constraint):
    """Scales down what has a norm above a bound: w·min(‖w‖, max_value)/(‖w‖ + 1e-7), unit by unit.

    Srebro et al., "Maximum-margin matrix factorization" (2004); with dropout: Srivastava et al., JMLR 15 (2014).

    Args:
        max_value: the bound; default 2.
        axis: along which norms are taken; default all but the first, so that each unit's incoming weights are a vector.

    >>> import pydl
    >>> MaxNorm(2.5)(pydl.asarray([[3.0, 4.0], [0.0, 0.5]])).numpy().round(4).tolist()
    [[1.5, 2.0], [0.0, 0.5]]
    """

    def __init__(self, max_value: float = 2.0, axis: int | tuple[int, ...] | None = None) -> None:
        check_option("MaxNorm", "max_value", max_value)
        self.max_value = float(max_value)
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        norms = _norms(w, self.axis)
        return w * (pydl.clip(norms, 0.0, self.max_value) / (norms + _TINY))


class UnitNorm(Constraint):
    """w/(‖w‖ + 1e-7), unit by unit.

    Args:
        axis: along which norms are taken; default all but the first.

    >>> import pydl
    >>> UnitNorm()(pydl.asarray([[0.0, 4.0]])).numpy().round(4).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, axis: int | tuple[int, ...] | None = None) -> None:
        self.axis = axis

    def __call__(self, w: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return w / (_norms(w, self.axis) + _TINY)


class NonNeg(Constraint):
    """max(w, 0).

    >>> import pydl
    >>> NonNeg()(pydl.asarray([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return pydl.clip(w, 0.0)


def constrain(module: AnyModule, pattern: str | None, constraint: Constraint | Callable[[Tensor], Tensor]) -> AnyModule:
    """Say what :func:`apply` is to do with some of a model's parameters. Several constraints follow each other.

    Args:
        module: a layer or a whole model.
        pattern: names of parameters or modules below, with ``*`` and ``?`` as in file names; a module's name stands for
            all its parameters. None: all parameters.
        constraint: a :class:`Constraint`, or a function of a tensor that gives another.

    Returns:
        The module.

    Raises:
        ValueError: the pattern selects nothing.

    >>> from pydl import nn
    >>> layer = constrain(nn.Linear(3, 2), "weight", NonNeg())
    >>> apply(layer)
    >>> layer.weight.min().item() >= 0
    True
    """
    if not callable(constraint):
        raise TypeError(
            f"[constrain] got a {type(constraint).__name__}, expected a Constraint or a function of a tensor"
        )
    chosen = matching_names(module, (pattern or "*",), exact=False, op="constrain")
    for owner, path, name, _ in _owned_parameters(module):
        if path in chosen:
            owner.__dict__.setdefault("_constraints", {}).setdefault(name, []).append(constraint)
    return module


def apply(module: Module) -> None:
    """Change all constrained parameters so that they satisfy their constraints."""
    nonnegative = []
    with pydl.no_grad():
        for owner in module.modules():
            for name, constraints in owner.__dict__.get("_constraints", {}).items():
                parameter = owner.__dict__[name]
                for each in constraints:
                    if type(each) is NonNeg and len(constraints) == 1:
                        nonnegative.append(parameter)
                    else:
                        parameter.copy_(each(parameter.detach()))
    if nonnegative:
        _C.clip_many_(nonnegative, 0.0, float("inf"))


def after_each_step(optimizer: Optimizer, module: Module) -> StepHook:
    """Apply the module's constraints after each step of the optimizer; ``remove()`` of the result ends that."""

    def project(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        apply(module)

    return optimizer.register_step_post_hook(project)


def _norms(w: Tensor, axis: int | tuple[int, ...] | None) -> Tensor:
    if axis is None:
        axis = tuple(range(1, w.ndim)) if w.ndim > 1 else 0
    return (w * w).sum(axis=axis, keepdims=True) ** 0.5
