"""Dropout: random zeros while training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["Dropout"]


class Dropout(Module):
    """Zero each element with probability p while training, and scale the others by 1/(1-p); nothing in evaluation.

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Dropout(0.9).eval()(pydl.ones((3,))).numpy().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if isinstance(p, bool) or not 0 <= p <= 1:
            raise ValueError(f"[Dropout] got p = {p!r}, expected a probability from 0 to 1")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"p={self.p}, inplace={self.inplace}"
