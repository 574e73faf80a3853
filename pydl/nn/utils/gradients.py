"""Norms and clipping of all gradients at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydl import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by min(1, max_norm/(norm + 10⁻⁶)), where norm is that of all of them as one vector.

    Pascanu et al., "On the difficulty of training recurrent neural networks", arXiv:1211.5063 (2013).

    Args:
        parameters: tensors; those without a gradient count for nothing.
        max_norm: the bound, 0 or more.
        norm_type: which p-norm; ``float("inf")`` is the largest magnitude; default 2.
        error_if_nonfinite: refuse a norm that is NaN or infinite, before anything is changed; default False.
        foreach: accepted and ignored.

    Returns:
        The norm before clipping, a 0-d tensor.

    Raises:
        ValueError: max_norm is negative or NaN, or the norm is not finite and should be.

    >>> w = pydl.zeros((2,), requires_grad=True)
    >>> (w * pydl.asarray([3.0, 4.0])).sum().backward()
    >>> clip_grad_norm_([w], 1.0).item()
    5.0
    """
    grads = _grads(parameters)
    if not max_norm >= 0:
        raise ValueError(f"[clip_grad_norm_] got max_norm {max_norm}, expected 0 or more")
    if not grads:
        return pydl.zeros(())
    if error_if_nonfinite:
        norm = get_total_norm(grads, norm_type)
        if not math.isfinite(norm.item()):
            raise ValueError(f"[clip_grad_norm_] the gradients' norm is {norm.item()}; nothing was changed")
    return _C.clip_grad_norm(grads, float(max_norm), float(norm_type))


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The p-norm of all tensors taken as one vector, a 0-d tensor; arguments as in :func:`clip_grad_norm_`."""
    tensors = [tensors] if isinstance(tensors, pydl.Tensor) else list(tensors)
    norm = _C.clip_grad_norm(tensors, math.inf, float(norm_type)) if tensors else pydl.zeros(())
    if error_if_nonfinite and not math.isfinite(norm.item()):
        raise ValueError(f"[get_total_norm] the norm is {norm.item()}, expected a finite one")
    return norm


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor | float, foreach: bool | None = None
) -> None:
    """Scale all gradients by min(1, max_norm/(total_norm + 10⁻⁶)), for a norm that is known already."""
    scale = min(1.0, float(max_norm) / (float(total_norm) + 1e-6))
    for grad in _grads(parameters):
        grad.mul_(scale)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value].

    Raises:
        ValueError: clip_value is negative or NaN.
    """
    if not clip_value >= 0:
        raise ValueError(f"[clip_grad_value_] got clip_value {clip_value}, expected 0 or more")
    grads = _grads(parameters)
    if grads:
        _C.clip_grad_value(grads, float(clip_value))


def _grads(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, pydl.Tensor):
        parameters = (parameters,)
    if not hasattr(parameters, "__iter__"):
        got = type(parameters).__name__
        raise TypeError(f"[clip_grad] got a {got}, expected tensors: give model.parameters()")
    return [grad for parameter in parameters if (grad := parameter.grad) is not None]
