"""Normalization layers. The formulas, and the papers, are functional's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
]


class _ChannelNorm(Module):
    """Parameters and running statistics of one number per channel."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ranks: tuple[int, ...] = ()
    _expected = ""

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        if num_features < 0:
            raise ValueError(f"[{type(self).__name__}] got num_features {num_features}, expected 0 or more")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_features,)
        new = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(pydl.ones(shape, **new)) if affine else None)
        self.register_parameter("bias", Parameter(pydl.zeros(shape, **new)) if affine and bias else None)
        self.register_buffer("running_mean", pydl.zeros(shape, **new) if track_running_stats else None)
        self.register_buffer("running_var", pydl.ones(shape, **new) if track_running_stats else None)
        tracked = pydl.zeros((), dtype=pydl.int64, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", tracked)

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1, and the count of batches to 0."""
        with pydl.no_grad():
            if self.running_mean is not None:
                self.running_mean.zero_()
            if self.running_var is not None:
                self.running_var.fill_(1)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set the weight to 1, the bias to 0, and the running statistics to their start."""
        self.reset_running_stats()
        with pydl.no_grad():
            if self.weight is not None:
                self.weight.fill_(1)
            if self.bias is not None:
                self.bias.zero_()

    def _check_rank(self, input: Tensor) -> None:
        if input.ndim not in self._ranks:
            got = tuple(input.shape)
            raise ValueError(f"[{type(self).__name__}] got an input of shape {got}, expected {self._expected}")

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        values = f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        return f"{self.num_features}, {values}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_ChannelNorm):
    _eval_when_frozen = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """Any of the layer's shapes -> the same shape."""
        self._check_rank(input)
        return self._normalize(input, False)

    def _normalize(self, input: Tensor, relu: bool) -> Tensor:
        mean, var, training = self.running_mean, self.running_var, self.training
        if not training:
            training = mean is None and var is None
        elif not self.track_running_stats:
            mean = var = None
        tracked = self.num_batches_tracked if self.training and self.track_running_stats else None
        name = type(self).__name__
        return _C.batch_norm(
            input, self.weight, self.bias, mean, var, tracked, training, self.momentum, self.eps, name, relu
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L): each channel to mean 0 and variance 1 over the batch, then scaled.

    y = (x - mean) / √(var + eps) · weight + bias; Ioffe and Szegedy, arXiv:1502.03167. In training mean and (biased)
    variance are the batch's, and the running ones move towards them; in evaluation the running ones are used.

    Args:
        num_features: channels, C.
        eps: added to the variance; default 1e-5.
        momentum: how far the running statistics move towards a batch's; default 0.1. None: their plain average.
        affine: whether there are ``weight`` and ``bias``, (C), starting at 1 and 0; default True.
        track_running_stats: whether there are ``running_mean``, ``running_var`` (unbiased) and
            ``num_batches_tracked``; default True. Without them the batch's statistics are used in evaluation too.
        device, dtype: of all tensors; default CPU and float32.
        bias: with False and affine there is only a weight; default True.

    Raises:
        ValueError: another number of axes or channels; in training only one value per channel (a last batch of one:
            drop it, call ``eval()``, or use ``GroupNorm``).

    >>> import pydl
    >>> from pydl import nn
    >>> y = nn.BatchNorm1d(2)(pydl.asarray([[1.0, 10.0], [3.0, 30.0]]))
    >>> [[round(v, 3) for v in row] for row in y.detach().numpy().tolist()]
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    _ranks = (2, 3)
    _expected = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalization of images, (N, C, H, W); arguments as :class:`BatchNorm1d`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.BatchNorm2d(3)(pydl.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    _ranks = (4,)
    _expected = "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch normalization of volumes, (N, C, D, H, W); arguments as :class:`BatchNorm1d`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.BatchNorm3d(3)(pydl.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 4, 4, 4)
    """

    _ranks = (5,)
    _expected = "(N, C, D, H, W)"
