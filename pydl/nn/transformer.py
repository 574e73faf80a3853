"""The transformer: encoder and decoder layers of attention and a small dense network, and stacks of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pydl
from pydl.nn import functional as F
from pydl.nn import init
from pydl.nn.attention import MultiheadAttention
from pydl.nn.containers import ModuleList
from pydl.nn.dropout import Dropout
from pydl.nn.linear import Linear
from pydl.nn.module import Module
from pydl.nn.normalization import LayerNorm

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import Attached

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


def _activation(layer: str, activation: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if callable(activation):
        return activation
    if activation not in ("relu", "gelu"):
        raise ValueError(f"[{layer}] got activation {activation!r}, expected 'relu', 'gelu' or a function")
    return F.relu if activation == "relu" else F.gelu


class _Layer(Module):
    """What encoder and decoder layers share: self-attention, the dense part, and how a sublayer is put in."""

    def __init__(
        self,
        attentions: tuple[str, ...],
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: str | Callable[[Tensor], Tensor],
        layer_norm_eps: float,
        batch_first: bool,
        norm_first: bool,
        bias: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        for name in attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, **made))
        self.linear1 = Linear(d_model, dim_feedforward, **made)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **made)
        self.norm_first = norm_first
        sublayers = range(1, len(attentions) + 2)
        for i in sublayers:
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, **made))
        for i in sublayers:
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _activation(type(self).__name__, activation)

    def _put_in(self, number: int, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x + sublayer(norm(x)), or norm(x + sublayer(x))."""
        norm, dropout = getattr(self, f"norm{number}"), getattr(self, f"dropout{number}")
        if self.norm_first:
            return x + dropout(sublayer(norm(x)))
        return norm(x + dropout(sublayer(x)))

    def _dense(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a dense network, each with a shortcut and layer normalization. Vaswani et al. (2017).

    Args:
        d_model: E, the number of features.
        nhead: number of attention heads, which divides E.
        dim_feedforward: width of the dense network; default 2048.
        dropout: probability, of attention weights and of all outputs; default 0.1.
        activation: of the dense network, ``"relu"`` (default), ``"gelu"`` or a function.
        layer_norm_eps: default 1e-5.
        batch_first: sequences are (N, L, E) instead of (L, N, E); default False.
        norm_first: normalize before each part instead of after the shortcut; trains deep stacks without warm-up. Xiong
            et al., arXiv:2002.04745. Default False.
        bias: whether dense layers and normalizations have biases; default True.
        device, dtype: of the parameters; default CPU and float32.

    Shapes:
        src (L, N, E) or (L, E) -> the same. Masks as in :class:`MultiheadAttention`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)(pydl.ones((5, 3, 8))).shape
    (5, 3, 8)
    """

    self_attn: MultiheadAttention

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__(
            ("self_attn",),
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
            device,
            dtype,
        )

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Sequences -> sequences of the same shape."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        return self._put_in(2, self._put_in(1, src, attend), self._dense)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to an encoder's output (the memory) and a dense network, each with a shortcut.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device,
            dtype: as in :class:`TransformerEncoderLayer`.

    Shapes:
        tgt (T, N, E), memory (S, N, E) -> (T, N, E); without N for one sequence. Masks as in
        :class:`MultiheadAttention`.

    >>> import pydl
    >>> from pydl import nn
    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(pydl.ones((4, 3, 8)), pydl.ones((5, 3, 8)), tgt_is_causal=True).shape
    (4, 3, 8)
    """

    self_attn: MultiheadAttention
    multihead_attn: MultiheadAttention

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__(
            ("self_attn", "multihead_attn"),
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
            device,
            dtype,
        )

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Sequences and the encoder's output -> sequences of the first's shape."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look_up(x: Tensor) -> Tensor:
            masks = (memory_key_padding_mask, False, memory_mask)
            return self.multihead_attn(x, memory, memory, *masks, is_causal=memory_is_causal)[0]

        return self._put_in(3, self._put_in(2, self._put_in(1, tgt, attend), look_up), self._dense)


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList(copy.deepcopy(layer) for _ in range(count))


class TransformerEncoder(Module):
    """A stack of encoder layers.

    Args:
        encoder_layer: the layer, of which copies are made.
        num_layers: how many.
        norm: a layer for the end of the stack; default none.
        enable_nested_tensor, mask_check: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), num_layers=2)
    >>> stack(pydl.ones((5, 3, 8))).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers = num_layers
        self.add_module("norm", norm)

    norm: Module | None

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Sequences -> sequences of the same shape."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of decoder layers.

    Args:
        decoder_layer: the layer, of which copies are made.
        num_layers: how many.
        norm: a layer for the end of the stack; default none.

    >>> import pydl
    >>> from pydl import nn
    >>> stack = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), num_layers=2)
    >>> stack(pydl.ones((4, 3, 8)), pydl.ones((5, 3, 8))).shape
    (4, 3, 8)
    """

    norm: Module | None

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers = num_layers
        self.add_module("norm", norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Sequences and the encoder's output -> sequences of the first's shape."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """Encoder and decoder, as translation uses them. Vaswani et al., "Attention is all you need", arXiv:1706.03762.

    Args:
        d_model: E, the number of features; default 512.
        nhead: number of attention heads; default 8.
        num_encoder_layers, num_decoder_layers: default 6 and 6.
        dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device, dtype: as in
            :class:`TransformerEncoderLayer`.
        custom_encoder, custom_decoder: modules to take instead; default none.

    Shapes:
        src (S, N, E), tgt (T, N, E) -> (T, N, E); without N for one pair. Masks as in :class:`MultiheadAttention`.

    Matrices start Glorot uniform.

    >>> import pydl
    >>> from pydl import nn
    >>> model = nn.Transformer(8, 2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=16)
    >>> mask = model.generate_square_subsequent_mask(4)
    >>> model(pydl.ones((5, 3, 8)), pydl.ones((4, 3, 8)), tgt_mask=mask).shape
    (4, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[Attached],
    ) -> None:
        super().__init__()
        layer = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)

        if custom_encoder is None:
            custom_encoder = TransformerEncoder(
                TransformerEncoderLayer(*layer, device, dtype), num_encoder_layers, norm()
            )
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(
                TransformerDecoderLayer(*layer, device, dtype), num_decoder_layers, norm()
            )
        self.encoder = custom_encoder
        self.decoder = custom_decoder
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """What is read and what is written so far -> features of what is written next."""
        batch = 0 if self.batch_first else 1
        alike = src.ndim == tgt.ndim and (src.ndim != 3 or src.shape[batch] == tgt.shape[batch])
        if src.ndim not in (2, 3) or not alike or not src.shape[-1] == tgt.shape[-1] == self.d_model:
            shapes = f"src {tuple(src.shape)} and tgt {tuple(tgt.shape)}"
            order = "(N, S, E) and (N, T, E)" if self.batch_first else "(S, N, E) and (T, N, E)"
            raise ValueError(f"[Transformer] got {shapes}, expected {order} with E = d_model = {self.d_model}")
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz), -inf above the diagonal and 0 elsewhere: no look ahead."""
        return pydl.triu(pydl.full((sz, sz), -float("inf"), dtype=dtype), k=1)
