"""Things done with all gradients or all parameters of a model at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydl import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "vector_to_parameters"]


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


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The p-norm of all tensors taken as one vector, a 0-d tensor; ``norm_type`` as in :func:`clip_grad_norm_`."""
    tensors = list(tensors)
    return _C.clip_grad_norm(tensors, math.inf, float(norm_type)) if tensors else pydl.zeros(())


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


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements in one vector (N), parameter after parameter; gradients flow through it.

    >>> from pydl import nn
    >>> parameters_to_vector(nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    return pydl.concat([parameter.reshape((-1,)) for parameter in parameters], axis=0)


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector (N) into the parameters, the inverse of :func:`parameters_to_vector`.

    Raises:
        ValueError: the vector has more or fewer elements than the parameters; nothing is changed.
    """
    parameters = list(parameters)
    sizes = [math.prod(parameter.shape) for parameter in parameters]
    if tuple(vec.shape) != (sum(sizes),):
        raise ValueError(f"[vector_to_parameters] got a vector of shape {tuple(vec.shape)}, expected ({sum(sizes)},)")
    start = 0
    with pydl.no_grad():
        for parameter, size in zip(parameters, sizes, strict=True):
            parameter.copy_(vec[start : start + size].reshape(tuple(parameter.shape)))
            start += size


def _grads(parameters: Any) -> list[Tensor]:
    if isinstance(parameters, pydl.Tensor):
        parameters = (parameters,)
    return [grad for parameter in parameters if (grad := parameter.grad) is not None]
