"""Normalization to mean 0 and variance 1, over the batch, a sample, or groups of its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydl import Tensor

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
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
        ValueError: in training one value per channel; else no running statistics; other shapes; eps of 0 or less.
    """
    if not eps > 0:
        raise ValueError(f"[batch_norm] got eps {eps}, expected a positive number such as 1e-5")
    if weight is None and bias is None and tuple(input.shape) == (0,):  # which PyTorch lets through
        return input.clone()
    return _C.batch_norm(input, weight, bias, running_mean, running_var, None, training, momentum, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias over the last axes of each sample. Ba et al., arXiv:1607.06450.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the sizes of the axes that are normalized together.
        weight, bias: of ``normalized_shape``; default 1 and 0.
        eps: added to the (biased) variance; default 1e-5.

    >>> import pydl
    >>> layer_norm(pydl.asarray([[1.0, 3.0], [10.0, 30.0]]), 2, eps=0.0).numpy().tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    return _C.layer_norm(input, normalized_shape, weight, bias, eps)


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / √(mean(x²) + eps) · weight over the last axes of each sample. Zhang and Sennrich, arXiv:1910.07467.

    ``eps`` is by default the smallest ε with 1 + ε ≠ 1 in the input's dtype; the other arguments as :func:`layer_norm`.
    """
    return _C.rms_norm(input, normalized_shape, weight, eps)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias over groups of each sample's channels. Wu and He, arXiv:1803.08494.

    Args:
        input: (N, C, ...).
        num_groups: C is a multiple of it.
        weight, bias: (C); default 1 and 0.
        eps: added to the (biased) variance; default 1e-5.

    Raises:
        ValueError: C is no multiple of the groups; one value per group.
    """
    shape = tuple(input.shape)
    if len(shape) > 1 and num_groups > 0 and input.size and input.size == shape[0] * num_groups:
        raise ValueError(f"[group_norm] got one value per group, input shape {shape}; use fewer groups")
    return _C.group_norm(input, num_groups, weight, bias, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias for each channel of each sample. Ulyanov et al., arXiv:1607.08022.

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C); used without ``use_input_stats``, and moved towards the samples' mean
            statistics with them.
        weight, bias: (C); default 1 and 0.
        use_input_stats: normalize with each sample's own mean and (biased) variance; default True.
        momentum: how far the running statistics move; default 0.1.
        eps: added to the variance; default 1e-5.

    Raises:
        ValueError: one value per channel; no running statistics where they are needed; other shapes.
    """
    if not use_input_stats:
        return _C.batch_norm(
            input, weight, bias, running_mean, running_var, None, False, momentum, eps, "instance_norm"
        )
    shape = tuple(input.shape)
    if len(shape) < 3 or (input.size and input.size == shape[0] * shape[1]):
        what = "expected (N, C, ...) with more than one value for each channel of a sample"
        raise ValueError(f"[instance_norm] got an input of shape {shape}, {what}")
    if running_mean is not None or running_var is not None:
        _move_running(input, running_mean, running_var, momentum)
    return _C.group_norm(input, shape[1], weight, bias, eps, "instance_norm")


def _move_running(x: Tensor, mean: Tensor | None, var: Tensor | None, momentum: float) -> None:
    axes = tuple(range(2, x.ndim))
    with pydl.no_grad():
        if mean is not None:
            new = pydl.mean(pydl.mean(x, axis=axes), axis=0)
            mean.copy_((1 - momentum) * mean + momentum * new)
        if var is not None:
            new = pydl.mean(pydl.var(x, axis=axes, correction=1), axis=0)
            var.copy_((1 - momentum) * var + momentum * new)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + α·mean(x²))^β, the mean over ``size`` neighbouring channels. Krizhevsky et al. (2012).

    Args:
        input: (N, C, ...), at least three axes.
        size: channels in a neighbourhood, the channel itself in the middle; channels beyond the ends count as zeros.
        alpha, beta, k: default 1e-4, 0.75 and 1.
    """
    shape = tuple(input.shape)
    if len(shape) < 3:
        raise ValueError(f"[local_response_norm] got an input of shape {shape}, expected (N, C, ...)")
    if size < 1:
        raise ValueError(f"[local_response_norm] got size {size}, expected 1 or more")
    if input.size == 0:
        return input
    # along the channels, as one axis of windows
    squares = (input * input).reshape((shape[0], 1, shape[1], -1))
    padded = pydl.nn.functional.pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = _C.avg_pool(padded, 2, (size, 1), (1, 1), 0, False, True, None).reshape(shape)
    return input / (mean * alpha + k) ** beta
