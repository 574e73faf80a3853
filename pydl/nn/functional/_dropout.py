"""Units left out at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "dropout",
]


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by 1/(1-p); the input itself if not training.

    Srivastava et al., "Dropout", JMLR 15 (2014). ``inplace`` is accepted and changes nothing.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"[dropout] got p = {p}, expected a probability from 0 to 1")
    return _C.dropout(input, p) if training and p > 0 else input
