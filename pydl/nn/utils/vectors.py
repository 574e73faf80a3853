"""All parameters as one vector, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pydl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydl import Tensor

__all__ = ["parameters_to_vector", "vector_to_parameters"]


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
