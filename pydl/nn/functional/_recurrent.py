"""Recurrent layers step by step, made of ops: for what the fused kernels of whole sequences do not have (projections,
normalization in the cell, masks on the way from step to step). Slower, and differentiable any number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__: list[str] = []


def recurrent_layer(
    mode: str,
    x: Tensor,
    h: Tensor,
    c: Tensor | None,
    weights: Mapping[str, Tensor | None],
    *,
    reverse: bool = False,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One layer in one direction: outputs (T, B, P) and the last h (B, P) and c (B, H).

    Args:
        mode: ``"lstm"``, ``"gru"``, ``"rnn_tanh"`` or ``"rnn_relu"``.
        x, h, c: (T, B, D), (B, P), (B, H); c for an LSTM only.
        weights: ``weight_ih`` (G·H, D), ``weight_hh`` (G·H, P), and where there are such ``bias_ih``, ``bias_hh``
            (G·H), ``weight_hr`` (P, H), and the gains ``norm_ih``, ``norm_hh`` (G·H), ``norm_c`` (2, H). With
            ``weight_ih_scale``, ``weight_hh_scale`` (G·H) those weights are int8.
        reverse: begin at the end.
        lengths: (B) steps of each sequence; default all.
        mask: (B, P), multiplies h where it enters the recurrent product.
    """
    get = weights.get
    steps = x.shape[0]
    inputs = _affine(x, weights, "ih")
    outputs: list[Tensor] = []
    for t in range(steps)[:: -1 if reverse else 1]:
        past = h if mask is None else h * mask
        recurrent = _affine(past, weights, "hh")
        new_h, new_c = _cell(mode, _C.select(inputs, 0, t), recurrent, h, c, get("norm_c"))
        projection = get("weight_hr")
        if projection is not None:
            new_h = _C.linear(new_h, projection, None)
        y = new_h
        if lengths is not None:
            inside = pydl.expand_dims(lengths > t, axis=1)
            y = pydl.where(inside, new_h, pydl.zeros_like(new_h))
            new_h = pydl.where(inside, new_h, h)
            new_c = None if new_c is None or c is None else pydl.where(inside, new_c, c)
        h, c = new_h, new_c
        outputs.append(y)
    if not outputs:
        return pydl.zeros((0, *h.shape), dtype=x.dtype, device=x.device), h, c
    return pydl.stack(outputs[:: -1 if reverse else 1]), h, c


def _affine(x: Tensor, weights: Mapping[str, Tensor | None], kind: str) -> Tensor:
    weight, bias, gain = weights["weight_" + kind], weights.get("bias_" + kind), weights.get("norm_" + kind)
    assert weight is not None
    scale = weights.get(f"weight_{kind}_scale")
    first = bias if gain is None else None
    y = _C.linear(x, weight, first) if scale is None else _C.int8_linear(x, weight, scale, first)
    if gain is None:
        return y
    y = _normalized(y) * gain
    return y if bias is None else y + bias


def _normalized(x: Tensor) -> Tensor:
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered * pydl.rsqrt((centered * centered).mean(axis=-1, keepdims=True) + 1e-5)


def _cell(
    mode: str, gi: Tensor, gh: Tensor, h: Tensor, c: Tensor | None, norm_c: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if mode == "rnn_tanh":
        return pydl.tanh(gi + gh), None
    if mode == "rnn_relu":
        return _C.relu(gi + gh), None
    if mode == "gru":
        size = h.shape[-1]
        gates_i, new_i = _C.split(gi, 1, [2 * size, size])
        gates_h, new_h = _C.split(gh, 1, [2 * size, size])
        r, z = _C.split(_C.sigmoid(gates_i + gates_h), 1, [size, size])
        n = pydl.tanh(new_i + r * new_h)
        return n + z * (h - n), None
    assert c is not None
    size = c.shape[-1]
    gates = gi + gh
    i, f, g, o = _C.split(gates, 1, [size] * 4)
    c = _C.sigmoid(f) * c + _C.sigmoid(i) * pydl.tanh(g)
    shown = c if norm_c is None else _normalized(c) * norm_c[0] + norm_c[1]
    return _C.sigmoid(o) * pydl.tanh(shown), c
