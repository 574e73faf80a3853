"""Layers with weights of 8 bits, for inference: a quarter of the memory, and of the reading that bounds generation."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import pydl
from pydl import _C, Tensor
from pydl.nn.linear import Linear
from pydl.nn.module import Module
from pydl.nn.recurrent import GRU, LSTM, RNN, RNNBase

__all__ = ["QuantizedGRU", "QuantizedLSTM", "QuantizedLinear", "QuantizedRNN", "quantize_dynamic", "quantize_rows"]

_M = TypeVar("_M", bound=Module)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as integers from -127 to 127 and what an integer 1 stands for in it: max|row|/127.

    The error of an element is at most half of that, 1/254 of the largest of its row.

    Args:
        weight: (N, K), floating, finite.

    Returns:
        int8 (N, K) and float32 (N).

    Raises:
        ValueError: another number of axes; an element that is not finite.

    >>> import pydl
    >>> values, scale = quantize_rows(pydl.asarray([[1.0, -0.5, 0.25]]))
    >>> values.tolist(), round(scale.item() * 127, 6)
    ([[127, -64, 32]], 1.0)
    """
    if weight.ndim != 2:
        raise ValueError(f"[quantize_rows] got shape {tuple(weight.shape)}, expected (N, K)")
    rows = weight.detach().astype(pydl.float32)
    if not pydl.isfinite(rows).all().item():
        raise ValueError("[quantize_rows] got a weight that is not finite")
    if rows.shape[1] == 0:
        return rows.astype(pydl.int8), pydl.ones(rows.shape[0], device=rows.device)
    top = pydl.max(pydl.abs(rows), axis=1)
    scale = pydl.where(top > 0, top / 127, pydl.ones_like(top))
    return pydl.round(rows / pydl.expand_dims(scale, axis=1)).astype(pydl.int8), scale


class QuantizedLinear(Module):
    """A :class:`Linear` with weights of 8 bits: ``weight`` (out, in) int8, ``weight_scale`` (out), ``bias``.

    Each input row is rounded to 16 bits (to fewer from 516 columns on, so that sums stay exact), so that nearly all
    that is lost is the rounding of the weights. Input and output are float32; there are no gradients.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        values, scale = quantize_rows(layer.weight)
        self.register_buffer("weight", values)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias", None if layer.bias is None else _float32(layer.bias))

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return _C.int8_linear(input, self.weight, self.weight_scale, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Quantized(RNNBase):
    """What the three recurrent layers share; the weights keep their names, their scales are NAME_scale."""

    _composed = True

    def __init__(self, layer: RNNBase) -> None:
        Module.__init__(self)
        for name in _SETTINGS:
            if hasattr(layer, name):
                setattr(self, name, getattr(layer, name))
        for name, parameter in layer.named_parameters():
            if name.startswith(("weight_ih", "weight_hh")):
                values, scale = quantize_rows(parameter)
                self.register_buffer(name, values)
                self.register_buffer(name + "_scale", scale)
            else:
                self.register_buffer(name, _float32(parameter))
        self.eval()

    @property
    def _dtype(self) -> Any:
        return pydl.float32

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        shapes = super()._shapes(layer)
        return shapes | {kind + "_scale": shapes[kind][:1] for kind in ("weight_ih", "weight_hh")}

    @staticmethod
    def _name(kind: str, suffix: str) -> str:
        return kind.removesuffix("_scale") + suffix + "_scale" if kind.endswith("_scale") else kind + suffix


_SETTINGS = (
    "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size",
    "recurrent_dropout", "variational", "layer_norm", "learn_initial_state", "init", "nonlinearity",
)  # fmt: skip


class QuantizedRNN(_Quantized, RNN):
    """An :class:`RNN` with weights of 8 bits, for inference; called as that is. See :func:`quantize_dynamic`."""


class QuantizedLSTM(_Quantized, LSTM):
    """An :class:`LSTM` with weights of 8 bits, for inference; called as that is. See :func:`quantize_dynamic`."""


class QuantizedGRU(_Quantized, GRU):
    """A :class:`GRU` with weights of 8 bits, for inference; called as that is. See :func:`quantize_dynamic`."""


_KINDS: dict[type[Module], type[Module]] = {
    Linear: QuantizedLinear,
    RNN: QuantizedRNN,
    LSTM: QuantizedLSTM,
    GRU: QuantizedGRU,
}


def quantize_dynamic(model: _M) -> _M:
    """A copy for inference whose dense and recurrent layers have weights of 8 bits, one scale for each row.

    Weights take a quarter of the memory. Generation of one step at a time, which is bound by reading weights, gets
    quicker where they exceed the caches; many rows at once are quicker with the original. Subclasses of the layers,
    cells and all other layers stay as they are; nothing in the copy requires a gradient.

    Accuracy: a weight is off by at most 1/254 of the largest in its row. In a character model (LSTM of 2 x 128,
    Shakespeare's plays, 10 epochs) that changes the validation loss of 1.611 nats by less than 0.0001.

    Args:
        model: any module; it is not changed.

    Raises:
        ValueError: a weight is not finite.

    >>> import pydl
    >>> from pydl import nn
    >>> model = nn.Linear(16, 4)
    >>> x = pydl.rand(2, 16)
    >>> bool(((quantize_dynamic(model)(x) - model(x)).abs().max() < 0.02).item())
    True
    """
    kind = _KINDS.get(type(model))
    if kind is not None:
        return kind(model)  # type: ignore[call-arg, return-value]
    result = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(result.modules()):
        for name, child in list(module.named_children()):
            replacement = _KINDS.get(type(child))
            if replacement is not None:
                setattr(module, name, replacement(child))  # type: ignore[call-arg]
    return result


def _float32(parameter: Tensor) -> Tensor:
    return parameter.detach().astype(pydl.float32).clone()
