"""Layer normalization made of ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.nn.linear import new_parameter
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from pydl import Tensor


class LayerNorm(Module):
    """(x - mean)/√(variance + ε) over the last axis, times ``weight``, plus ``bias``."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = (normalized_shape,)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        shape = self.normalized_shape
        self.register_parameter("weight", new_parameter(shape, device, dtype) if elementwise_affine else None)
        self.register_parameter("bias", new_parameter(shape, device, dtype) if elementwise_affine and bias else None)
        with pydl.no_grad():
            if self.weight is not None:
                self.weight.fill_(1.0)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, input: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        centered = input - input.mean(axis=-1, keepdims=True)
        y = centered * pydl.rsqrt((centered * centered).mean(axis=-1, keepdims=True) + self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias
