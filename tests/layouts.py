"""The same values in memory of different shapes: strides transposed, negative, with gaps, unaligned, zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import pydl

Laid = tuple[np.ndarray, "pydl.Tensor"]  # the values, and a tensor that holds them


def contiguous(a: np.ndarray) -> Laid:
    return a, pydl.asarray(a.copy())


def transposed(a: np.ndarray) -> Laid:
    axes = tuple(range(a.ndim))[::-1]
    return a, pydl.permute_dims(pydl.asarray(a.T.copy()), axes)


def reversed_(a: np.ndarray) -> Laid:
    """Negative strides along every axis."""
    base = pydl.asarray(np.flip(a).copy())
    return a, base[(slice(None, None, -1),) * a.ndim]


def stepped(a: np.ndarray) -> Laid:
    """Every second element of a larger tensor whose other elements are wrong."""
    wrong = np.full(tuple(2 * n + 1 for n in a.shape), 77, dtype=np.float64).astype(a.dtype)
    inner = (slice(1, None, 2),) * a.ndim
    wrong[inner] = a
    return a, pydl.asarray(wrong)[inner]


def offset(a: np.ndarray) -> Laid:
    """Contiguous, but one element past an aligned address."""
    flat = np.concatenate([np.zeros(1, a.dtype), a.ravel()])
    return a, pydl.asarray(flat)[1:].reshape(a.shape)


def inner_broadcast(a: np.ndarray) -> Laid:
    if a.ndim == 0 or a.size == 0:
        return contiguous(a)
    return np.broadcast_to(a[..., :1], a.shape), pydl.broadcast_to(pydl.asarray(a[..., :1].copy()), a.shape)


def outer_broadcast(a: np.ndarray) -> Laid:
    if a.ndim == 0 or a.size == 0:
        return contiguous(a)
    return np.broadcast_to(a[:1], a.shape), pydl.broadcast_to(pydl.asarray(a[:1].copy()), a.shape)


LAYOUTS: dict[str, Callable[[np.ndarray], Laid]] = {
    "contiguous": contiguous,
    "transposed": transposed,
    "reversed": reversed_,
    "stepped": stepped,
    "offset": offset,
    "inner_broadcast": inner_broadcast,
    "outer_broadcast": outer_broadcast,
}
