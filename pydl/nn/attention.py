"""Multi-head attention as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.nn import functional as F
from pydl.nn import init
from pydl.nn.linear import Linear, new_parameter
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import Attached

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Several attentions side by side, each in a subspace of its own: softmax(q kᵀ/√d) v. Vaswani et al. (2017).

    Args:
        embed_dim: E, size of queries and of the output.
        num_heads: number of subspaces, which divides E.
        dropout: probability of dropping an attention weight while training; default 0.
        bias: whether the projections have biases; default True.
        add_bias_kv: one more key and value, trained, behind the others; default False.
        add_zero_attn: one more key and value of zeros behind the others; default False.
        kdim, vdim: sizes of keys and values; default E.
        batch_first: sequences are (N, L, E) instead of (L, N, E); default False.
        device, dtype: of the parameters; default CPU and float32.

    Shapes:
        query (L, N, E), key (S, N, kdim), value (S, N, vdim), or without N for one sequence ->
        output (L, N, E) and weights (N, L, S), or (N, heads, L, S) with ``average_attn_weights=False``.
        ``key_padding_mask`` (N, S) and ``attn_mask`` (L, S) or (N·heads, L, S) are boolean, true where a key is left
        out, or numbers that are added to the scores.

    Parameters: ``in_proj_weight`` (3E, E), or ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight`` where kdim or
    vdim differ, all Glorot uniform; ``in_proj_bias`` (3E), zeros; ``bias_k`` and ``bias_v`` (1, 1, E); ``out_proj``.

    A query that every key is kept from gives the output's bias, where PyTorch may give NaN.

    Raises:
        ValueError: a size that the heads don't divide; shapes that do not fit.

    >>> import pydl
    >>> from pydl import nn
    >>> x = pydl.ones((5, 2, 8))
    >>> y, weights = nn.MultiheadAttention(8, num_heads=4)(x, x, x)
    >>> y.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            sizes = f"embed_dim {embed_dim} and num_heads {num_heads}"
            raise ValueError(f"[MultiheadAttention] got {sizes}, expected a size that the number of heads divides")
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"[MultiheadAttention] got dropout {dropout!r}, expected a probability from 0 to 1")
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn

        def parameter(*shape: int) -> Parameter:
            return new_parameter(shape, device, dtype)

        one_size = self.kdim == self.vdim == embed_dim
        for name, size in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            self.register_parameter(f"{name}_proj_weight", None if one_size else parameter(embed_dim, size))
        self.register_parameter("in_proj_weight", parameter(3 * embed_dim, embed_dim) if one_size else None)
        self.register_parameter("in_proj_bias", parameter(3 * embed_dim) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, parameter(1, 1, embed_dim) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for key in (self.bias_k, self.bias_v):
            if key is not None:
                init.xavier_normal_(key)

    reset_parameters = _reset_parameters

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Queries, keys and values -> output, and the weights or None. ``is_causal`` without a mask makes one."""
        swap = self.batch_first and query.ndim == 3
        if swap:
            if query is key is value:
                query = key = value = pydl.swap_axes(query, 0, 1)
            else:
                same = key is value
                query, key = pydl.swap_axes(query, 0, 1), pydl.swap_axes(key, 0, 1)
                value = key if same else pydl.swap_axes(value, 0, 1)
        output, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            self.training,
            key_padding_mask,
            need_weights,
            attn_mask,
            self.in_proj_weight is None,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (pydl.swap_axes(output, 0, 1) if swap else output), weights

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"
