"""Attention: means of values, weighted by how well their keys fit a query. Vaswani et al., arXiv:1706.03762 (2017)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pydl
from pydl import _C
from pydl.nn.functional._dropout import check_probability

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q kᵀ · scale + mask) v. Vaswani et al., arXiv:1706.03762 (2017).

    Args:
        query, key, value: (..., L, E), (..., S, E), (..., S, V); batch axes broadcast.
        attn_mask: broadcasts to (..., L, S): boolean, true where a key takes part, or numbers that are added; default
            none. A query without any key gives zeros.
        dropout_p: probability of dropping a weight, whatever the mode; default 0.
        is_causal: query i sees the keys up to i only; default False.
        scale: default 1/√E.
        enable_gqa: key and value have fewer heads (axis -3), and each serves a group of queries; default False.

    Returns:
        (..., L, V).

    Raises:
        ValueError: shapes that do not fit; a mask and is_causal together.

    >>> import pydl
    >>> q = k = v = pydl.ones((1, 2, 4, 8))
    >>> scaled_dot_product_attention(q, k, v, is_causal=True).shape
    (1, 2, 4, 8)
    """
    op = "scaled_dot_product_attention"
    if (
        min(query.ndim, key.ndim, value.ndim) < 2
        or query.shape[-1] != key.shape[-1]
        or key.shape[-2] != value.shape[-2]
    ):
        shapes = f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
        raise ValueError(f"[{op}] got shapes {shapes}, expected (..., L, E), (..., S, E) and (..., S, V)")
    if is_causal and attn_mask is not None:
        raise ValueError(
            f"[{op}] got a mask and is_causal=True, expected one of them; put the causal part into the mask"
        )
    check_probability(op, dropout_p)
    if enable_gqa:
        key, value = _for_each_query(op, query, key), _for_each_query(op, query, value)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if is_causal:
        return _causal(query * scale, key, value, dropout_p)
    return _dropped(_weights(query * scale, key, attn_mask), dropout_p) @ value


def _dropped(weights: Tensor, dropout_p: float) -> Tensor:
    return _C.dropout(weights, dropout_p) if dropout_p > 0 else weights


_CAUSAL_BLOCK, _LONG_CAUSAL = 64, 1024  # queries


def _causal(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
    """Attention to the keys up to each query. A block of queries meets the first quarter of the keys, half of them,
    three quarters or all (of many, eighths): few sizes of memory, used again, and little more than half the products.
    """
    queries, keys = query.shape[-2], key.shape[-2]
    if queries < 2 * _CAUSAL_BLOCK or keys == 0:
        return _dropped(_weights(query, key, causal_mask(queries, keys)), dropout_p) @ value
    step = -(-keys // (8 if queries >= _LONG_CAUSAL else 4))
    parts, seen = [], 0
    for first in range(0, queries, _CAUSAL_BLOCK):
        last = min(first + _CAUSAL_BLOCK, queries)
        if seen < min(last, keys):
            seen = min(-(-last // step) * step, keys)
            k, v = key[..., :seen, :], value[..., :seen, :]
        scores = pydl.where(causal_mask(last - first, seen, first), query[..., first:last, :] @ k.mT, -float("inf"))
        parts.append(_dropped(_C.softmax(scores, -1), dropout_p) @ v)
    return pydl.concat(parts, axis=-2)


def causal_mask(queries: int, keys: int, first: int = 0) -> Tensor:
    """(L, S), true where key j is not after query first + i."""
    return pydl.expand_dims(pydl.arange(first, first + queries), axis=1) >= pydl.arange(keys)


def _for_each_query(op: str, query: Tensor, x: Tensor) -> Tensor:
    heads, own = query.shape[-3], x.shape[-3]
    if heads % own:
        raise ValueError(f"[{op}] got {heads} heads of queries and {own} of keys or values, expected a multiple")
    return x if heads == own else pydl.repeat(x, heads // own, axis=-3)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ + mask) over the last axis; 0 for a query without any key."""
    scores = query @ key.mT
    if mask is None:
        return _C.softmax(scores, -1)
    boolean = mask.dtype == pydl.bool
    lonely = ~pydl.any(mask, axis=-1, keepdims=True) if boolean else pydl.max(
        mask.detach(), axis=-1, keepdims=True
    ) == -float("inf")  # fmt: skip
    if mask.shape[-1] == 0 or not bool(pydl.any(lonely)):
        return _C.softmax(pydl.where(mask, scores, -float("inf")) if boolean else scores + mask, -1)
    zeros = pydl.zeros_like(scores)
    scores = pydl.where(mask, scores, -float("inf")) if boolean else scores + mask
    return pydl.where(lonely, zeros, _C.softmax(pydl.where(lonely, zeros, scores), -1))


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What :class:`pydl.nn.MultiheadAttention` computes, for (L, N, E) or (L, E), from weights that are given.

    ``static_k`` and ``static_v`` (N·heads, S, E/heads) take the place of the projected keys and values.
    """
    batched = query.ndim == 3
    _check_attention(query, key, value, embed_dim_to_check, num_heads, key_padding_mask, attn_mask)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _project(query, key, value, in_proj_weight, in_proj_bias, separate)
    if not batched:
        q, k, v = (pydl.expand_dims(t, axis=1) for t in (q, k, v))
        key_padding_mask = None if key_padding_mask is None else pydl.expand_dims(key_padding_mask, axis=0)
    length, batch, size = q.shape
    head = size // num_heads
    if bias_k is not None and bias_v is not None:
        k, v = (pydl.concat([t, pydl.broadcast_to(b, (1, batch, size))]) for t, b in ((k, bias_k), (v, bias_v)))

    def by_head(x: Tensor) -> Tensor:
        return pydl.permute_dims(x.reshape((x.shape[0], batch, num_heads, head)), (1, 2, 0, 3))

    q = by_head(q)
    k = by_head(k) if static_k is None else static_k.reshape((batch, num_heads, -1, head))
    v = by_head(v) if static_v is None else static_v.reshape((batch, num_heads, -1, head))
    if add_zero_attn:
        nothing = pydl.zeros((batch, num_heads, 1, head), dtype=q.dtype, device=q.device)
        k, v = pydl.concat([k, nothing], axis=2), pydl.concat([v, nothing], axis=2)
    q = q * (1.0 / math.sqrt(head))
    dropout_p = dropout_p if training else 0.0
    extra = (bias_k is not None) + add_zero_attn
    if is_causal and attn_mask is None and key_padding_mask is None and extra == 0 and not need_weights:
        mixed = _causal(q, k, v, dropout_p)
    else:
        if is_causal and attn_mask is None:
            attn_mask = ~causal_mask(length, key.shape[0])
        weights = _weights(q, k, _joint_mask(attn_mask, key_padding_mask, batch, num_heads, extra, q))
        weights = _dropped(weights, dropout_p)
        mixed = weights @ v
    mixed = pydl.permute_dims(mixed, (2, 0, 1, 3)).reshape((length, batch, size))
    output = _C.linear(mixed, out_proj_weight, out_proj_bias)
    seen = None
    if need_weights:
        seen = weights.mean(axis=1) if average_attn_weights else weights
        seen = seen if batched else pydl.squeeze(seen, axis=0)
    return (output if batched else pydl.squeeze(output, axis=1)), seen


def _check_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    size: int,
    heads: int,
    padding: Tensor | None,
    mask: Tensor | None,
) -> None:
    op, axes = "multi_head_attention", query.ndim
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)} and value {tuple(value.shape)}"
    if axes not in (2, 3) or key.ndim != axes or value.ndim != axes:
        raise ValueError(f"[{op}] got {shapes}, expected three axes each, or two for one sequence")
    if query.shape[-1] != size or size % heads:
        raise ValueError(f"[{op}] got {shapes}, expected queries of embed_dim = {size}, which {heads} heads divide")
    if key.shape[:-1] != value.shape[:-1] or (axes == 3 and query.shape[1] != key.shape[1]):
        raise ValueError(f"[{op}] got {shapes}, expected keys and values alike, in a batch as large as the queries'")
    length, keys = query.shape[0], key.shape[0]
    batch = query.shape[1] if axes == 3 else 1
    expected: tuple[int, ...] = (batch, keys) if axes == 3 else (keys,)
    if padding is not None and tuple(padding.shape) != expected:
        raise ValueError(f"[{op}] got key_padding_mask of shape {tuple(padding.shape)}, expected {expected}")
    known = ((length, keys), (batch * heads, length, keys))
    if mask is not None and tuple(mask.shape) not in known:
        raise ValueError(f"[{op}] got attn_mask of shape {tuple(mask.shape)}, expected {known[0]} or {known[1]}")
    for what, given in (("key_padding_mask", padding), ("attn_mask", mask)):
        if given is not None and given.dtype != pydl.bool and not given.is_floating_point():
            raise TypeError(f"[{op}] got {what} of {given.dtype}, expected bool (true is left out) or numbers to add")


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    separate: tuple[Tensor | None, Tensor | None, Tensor | None] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    size = query.shape[-1]
    if separate is None and weight is not None and query is key and key is value:
        all_three = _C.linear(query, weight, bias)
        q, k, v = pydl.split(all_three, size, axis=-1)
        return q, k, v
    biases = [None] * 3 if bias is None else pydl.split(bias, size)
    if separate is None:
        if weight is None:
            raise ValueError("[multi_head_attention] got no in_proj_weight and no separate ones, expected either")
        q_weight, k_weight, v_weight = pydl.split(weight, size)
    else:
        if any(w is None for w in separate):
            raise ValueError("[multi_head_attention] got use_separate_proj_weight=True, expected all three weights")
        q_weight, k_weight, v_weight = separate  # type: ignore[assignment]
    return (
        _C.linear(query, q_weight, biases[0]),
        _C.linear(key, k_weight, biases[1]),
        _C.linear(value, v_weight, biases[2]),
    )


def _joint_mask(
    mask: Tensor | None, padding: Tensor | None, batch: int, heads: int, extra: int, like: Tensor
) -> Tensor | None:
    """Both masks as one that is added to the scores or, of two booleans, one that is true where a key counts."""
    if mask is not None and mask.ndim == 3:
        mask = mask.reshape((batch, heads, *mask.shape[1:]))
    if padding is not None:
        padding = padding.reshape((batch, 1, 1, padding.shape[-1]))
    given = [m for m in (mask, padding) if m is not None]
    if not given:
        return None
    if all(m.dtype == pydl.bool for m in given):
        left_out = given[0] if len(given) == 1 else given[0] | given[1]
        return ~_widen(left_out, extra)
    numbers = [
        pydl.where(m, -float("inf"), pydl.zeros(m.shape, dtype=like.dtype, device=m.device))
        if m.dtype == pydl.bool
        else m
        for m in given
    ]
    return _widen(numbers[0] if len(numbers) == 1 else numbers[0] + numbers[1], extra)


def _widen(mask: Tensor, extra: int) -> Tensor:
    """For the keys that add_bias_kv and add_zero_attn put behind the others, and which all queries see."""
    return _C.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, extra)], 0) if extra else mask
