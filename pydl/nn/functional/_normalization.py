"""Normalization to mean 0 and variance 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl import _C

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "batch_norm",
]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias for each channel. Ioffe and Szegedy, arXiv:1502.03167.

    Args:
        input: (N, C) or (N, C, ...).
        running_mean, running_var: (C); what is used when not training. In training they are changed in place: running
            ← (1 - momentum)·running + momentum·batch, with the batch's unbiased variance. None: there are none.
        weight, bias: (C); default 1 and 0.
        training: normalize with the mean and the biased variance of this batch; default False.
        momentum: default 0.1.
        eps: added to the variance; default 1e-5.

    Raises:
        ValueError: in training one value per channel; else no running statistics; other shapes.
    """
    return _C.batch_norm(input, weight, bias, running_mean, running_var, None, training, momentum, eps)
