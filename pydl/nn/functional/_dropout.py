"""Units left out at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]


def check_probability(op: str, p: float) -> None:
    """ValueError where p is no probability."""
    if isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueError(f"[{op}] got p = {p!r}, expected a probability from 0 to 1")


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, classical: bool = False
) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by 1/(1-p); the input itself if not training.

    With ``classical=True`` nothing is scaled in training, and everything by 1-p otherwise, as Srivastava et al.,
    "Dropout", JMLR 15 (2014), have it. ``inplace`` is accepted and changes nothing.
    """
    check_probability("dropout", p)
    if not training:
        return input * (1.0 - p) if classical and p > 0 else input
    if p == 0:
        return input
    kept = _C.dropout(input, p)
    return kept * (1.0 - p) if classical else kept


def _by_channel(op: str, input: Tensor, p: float, training: bool, axes: int) -> Tensor:
    """Whole channels dropped: one draw for each (n, c) of (N, C, ...), or each c of (C, ...) with ``axes`` axes."""
    check_probability(op, p)
    if not training or p == 0:
        return input
    return input * _C.dropout(pydl.ones(_channel_shape(op, input, axes), dtype=input.dtype, device=input.device), p)


def _channel_shape(op: str, input: Tensor, axes: int) -> tuple[int, ...]:
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ValueError(f"[{op}] got input of shape {shape}, expected channels: (N, C, ...) or (C, ...)")
    batch = 1 if len(shape) == axes + 1 else 2
    return shape[:batch] + (1,) * (len(shape) - batch)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L) with probability ``p``, and scale the others by 1/(1-p)."""
    if input.ndim not in (2, 3):
        raise ValueError(f"[dropout1d] got input of shape {tuple(input.shape)}, expected (N, C, L) or (C, L)")
    return _by_channel("dropout1d", input, p, training, 1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, H, W) with probability ``p``, and scale the others by 1/(1-p).

    Three axes are taken for (N, C, L), as in PyTorch. Tompson et al., arXiv:1411.4280 (2014).
    """
    return _by_channel("dropout2d", input, p, training, 0)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero channels of (N, C, D, H, W) or (C, D, H, W) with probability ``p``, and scale the others by 1/(1-p)."""
    return _by_channel("dropout3d", input, p, training, 3)


_SATURATION = -1.7580993408473766  # SELU's value far left


def _alpha(input: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    if p == 1:
        return input * 0.0
    scale = ((1.0 - p) * (1.0 + p * _SATURATION**2)) ** -0.5
    dropped = _C.equal(_C.dropout(pydl.ones(shape, dtype=input.dtype, device=input.device), p), 0.0)
    return pydl.where(dropped, _SATURATION, input) * scale - scale * p * _SATURATION


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout for SELU: dropped elements take its value far left, and mean 0 and variance 1 are kept.

    Klambauer et al., "Self-normalizing neural networks", arXiv:1706.02515 (2017).
    """
    check_probability("alpha_dropout", p)
    return _alpha(input, p, tuple(input.shape)) if training and p > 0 else input


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """:func:`alpha_dropout` of whole channels of (N, C, ...)."""
    check_probability("feature_alpha_dropout", p)
    if not training or p == 0:
        return input
    return _alpha(input, p, _channel_shape("feature_alpha_dropout", input, 0))
