"""Rows of a table picked by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl._aliases import in_its_own_name

if TYPE_CHECKING:
    import numpy as np

    from pydl import Tensor

__all__ = [
    "embedding",
    "embedding_bag",
    "one_hot",
]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of ``weight`` (V, E) at ``input`` (...) -> (..., E). Arguments as in :class:`pydl.nn.Embedding`."""
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    if max_norm is not None:
        _limit_rows(input, weight, max_norm, norm_type)
    rows = _C.embedding(input, weight, -1 if padding_idx is None else padding_idx, bool(sparse))
    return _scale_by_frequency(rows, input, weight.shape[0]) if scale_grad_by_freq else rows


def _limit_rows(ids: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    import numpy as np

    if ids.is_floating_point():
        raise TypeError(f"[embedding] got indices of {ids.dtype}, expected integers; convert with astype(int64)")
    places, rows_there = np.unique(ids.detach().cpu().numpy()).astype(np.int64), weight.shape[0]
    if places.size and not 0 <= places[0] <= places[-1] < rows_there:  # before any row is changed
        wrong = places[0] if places[0] < 0 else places[-1]
        raise IndexError(
            f"[embedding] index {wrong} is out of range for a table of {rows_there} rows, "
            f"expected 0 to {rows_there - 1}"
        )
    with pydl.no_grad():
        used = pydl.asarray(places, device=weight.device)
        rows = weight.detach()[used]
        norm = pydl.norm(rows, norm_type, axis=-1, keepdims=True)
        weight[used] = pydl.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)


def _scale_by_frequency(rows: Tensor, ids: Tensor, count: int) -> Tensor:
    import numpy as np

    flat = ids.detach().cpu().numpy()
    share = 1.0 / np.bincount(flat.reshape(-1), minlength=count)[flat]
    scale = pydl.asarray(share, dtype=rows.dtype, device=rows.device).reshape((*ids.shape, 1))

    class ScaleGradient(pydl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.detach()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * scale

    return ScaleGradient.apply(rows)


@in_its_own_name
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of rows of ``weight``, one for each bag. Arguments as in :class:`pydl.nn.EmbeddingBag`."""
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"[embedding_bag] got mode {mode!r}, expected 'sum', 'mean' or 'max'")
    if per_sample_weights is not None:
        if mode != "sum":
            raise ValueError(f"[embedding_bag] got per_sample_weights and mode {mode!r}, expected mode 'sum' with them")
        if per_sample_weights.shape != input.shape:
            shapes = f"per_sample_weights of shape {tuple(per_sample_weights.shape)} for input {tuple(input.shape)}"
            raise ValueError(f"[embedding_bag] got {shapes}, expected the same")
    if scale_grad_by_freq and mode == "max":
        raise ValueError("[embedding_bag] got scale_grad_by_freq=True and mode 'max', which do not go together")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    lengths = _bag_lengths(input, offsets, include_last_offset)
    flat = input.reshape((-1,))
    rows = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape((-1, 1))
    counted = None if padding_idx is None else _C.not_equal(flat, padding_idx)
    if mode == "max":
        return _bag_max(rows, lengths, counted)
    if counted is not None:
        rows = pydl.where(pydl.expand_dims(counted, axis=1), rows, pydl.zeros_like(rows))
    sums = _bag_sum(rows, lengths)
    if mode == "sum":
        return sums
    ones = (
        pydl.ones(flat.shape, dtype=rows.dtype, device=rows.device) if counted is None else counted.astype(rows.dtype)
    )
    return sums / pydl.maximum(_bag_sum(pydl.expand_dims(ones, axis=1), lengths), 1.0)


def _bag_lengths(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> np.ndarray:
    import numpy as np

    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("[embedding_bag] got offsets for an input of two axes, expected none: each row is a bag")
        return np.full(input.shape[0], input.shape[1])
    if input.ndim != 1 or offsets is None or offsets.ndim != 1:
        got = f"input {tuple(input.shape)} and offsets {None if offsets is None else tuple(offsets.shape)}"
        raise ValueError(f"[embedding_bag] got {got}, expected (B, N) and None, or (N) and (B)")
    if offsets.is_floating_point():
        raise TypeError(f"[embedding_bag] got offsets of {offsets.dtype}, expected whole numbers")
    starts = offsets.cpu().numpy().astype(np.int64)
    total = input.shape[0]
    ends = np.append(starts[1:], [] if include_last_offset else [total]).astype(np.int64)
    starts = starts[: len(ends)]
    if len(starts) and (starts[0] != 0 or (ends < starts).any() or ends[-1] > total):
        raise ValueError(
            f"[embedding_bag] got offsets {offsets.tolist()} into {total} numbers, expected them to begin with 0, to "
            "ascend and to end within"
        )
    return ends - starts


def _bag_sum(rows: Tensor, lengths: np.ndarray) -> Tensor:
    import numpy as np

    bags, size = len(lengths), rows.shape[1]
    used = int(lengths.sum())
    if bags and (lengths == lengths[0]).all():
        return rows[:used].reshape((bags, int(lengths[0]), size)).sum(axis=1)
    bag = pydl.asarray(np.repeat(np.arange(bags), lengths).reshape(-1, 1), device=rows.device)
    place = pydl.broadcast_to(bag, (used, size)).contiguous()
    return pydl.scatter_add(pydl.zeros((bags, size), dtype=rows.dtype, device=rows.device), 0, place, rows[:used])


def _bag_max(rows: Tensor, lengths: np.ndarray, counted: Tensor | None) -> Tensor:
    import numpy as np

    bags, longest, size = len(lengths), int(lengths.max(initial=0)), rows.shape[1]
    if not bags or not longest:
        return _bag_sum(rows, lengths)  # zeros, with a history
    starts = np.cumsum(lengths) - lengths
    place = np.arange(longest) < lengths[:, None]
    table = pydl.asarray(np.where(place, starts[:, None] + np.arange(longest), 0), device=rows.device)
    inside = pydl.asarray(place, device=rows.device)
    if counted is not None:
        inside = inside & pydl.take(counted, table.reshape((-1,)), axis=0).reshape(table.shape)
    values = pydl.take(rows, table.reshape((-1,)), axis=0).reshape((bags, longest, size))
    lowest = pydl.full_like(values.detach(), -float("inf"))
    largest = pydl.max_with_index(pydl.where(pydl.expand_dims(inside, axis=2), values, lowest), axis=1)[0]
    filled = pydl.any(inside, axis=1, keepdims=True)
    return pydl.where(filled, largest, pydl.zeros_like(largest))


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Whole numbers (...) -> int64 vectors (..., C) with a one at that place; C is by default the largest plus one."""
    if input.is_floating_point():
        raise TypeError(f"[one_hot] got {input.dtype}, expected whole numbers; convert with astype(pydl.int64)")
    if num_classes == -1:
        num_classes = int(input.max().item()) + 1 if input.size else 0
    low, high = (int(input.min().item()), int(input.max().item())) if input.size else (0, -1)
    if low < 0 or high >= num_classes:
        raise ValueError(f"[one_hot] got numbers from {low} to {high}, expected 0 to {num_classes - 1}")
    return _C.equal(pydl.expand_dims(input, axis=-1), pydl.arange(num_classes, device=input.device)).astype(pydl.int64)
