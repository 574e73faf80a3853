"""Images in the layouts that layers meet, and the comparison of a layer with PyTorch's. No tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pydl
from tolerances import assert_near

# float32 gradients are sums over a batch, in another order than PyTorch's
RTOL = {"float32": 2e-5, "float64": 1e-10}


def channels_first(a: np.ndarray) -> pydl.Tensor:
    return pydl.asarray(a.copy())


def channels_last(a: np.ndarray) -> pydl.Tensor:
    """Shape (N, C, ...), memory (N, ..., C)."""
    if a.ndim < 3:
        return pydl.asarray(a.copy())
    return as_channels_last(pydl.asarray(np.ascontiguousarray(np.moveaxis(a, 1, -1))))


def as_channels_last(x: pydl.Tensor) -> pydl.Tensor:
    """(N, ..., C) seen as (N, C, ...)."""
    return pydl.permute_dims(x, (0, x.ndim - 1, *range(1, x.ndim - 1)))


def every_second(a: np.ndarray) -> pydl.Tensor:
    wide = np.full(tuple(2 * n for n in a.shape), np.nan, a.dtype)
    inner = (slice(None, None, 2),) * a.ndim
    wide[inner] = a
    return pydl.asarray(wide)[inner]


LAYOUTS: dict[str, Callable[[np.ndarray], pydl.Tensor]] = {
    "channels first": channels_first,
    "channels last": channels_last,
    "every second": every_second,
}


def is_channels_last(x: pydl.Tensor) -> bool:
    return bool(np.moveaxis(x.detach().numpy(), 1, -1).flags.c_contiguous)


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
    layout: Callable[[np.ndarray], pydl.Tensor] = channels_first,
    what: str = "",
) -> None:
    """Values and gradients of all operands, the first laid out; the upstream gradient is laid out too."""
    import torch

    dtype = arrays[0].dtype.name
    tensors = [layout(arrays[0]).detach().requires_grad_()]
    tensors += [pydl.asarray(a.copy()).requires_grad_() for a in arrays[1:]]
    others = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*tensors), theirs(*others)
    assert y.dtype == tensors[0].dtype, what
    near(y, t, dtype, f"{what}: value")
    upstream = np.asarray(rng.uniform(-1, 2, tuple(t.shape)), dtype)
    y.backward(layout(upstream))
    t.backward(torch.tensor(upstream))
    for i, (a, b) in enumerate(zip(tensors, others, strict=True)):
        assert a.grad is not None, what
        near(a.grad, b.grad, dtype, f"{what}: gradient of operand {i}")


def near(got: pydl.Tensor, wanted: Any, dtype: str, what: str) -> None:
    exact = wanted.detach().numpy()
    size = float(np.max(np.abs(exact[np.isfinite(exact)]), initial=1.0))
    assert_near(got.detach().numpy(), exact, RTOL[dtype], RTOL[dtype] * size, what)
