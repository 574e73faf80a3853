"""Normalization layers. The formulas, and the papers, are functional's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C
from pydl.nn import functional as F
from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from pydl import Tensor
    from pydl.nn.arguments import AttachedToNorm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
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
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)
        if not eps > 0:
            raise ValueError(f"[{type(self).__name__}] got eps {eps}, expected a positive number such as 1e-5")

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


class _InstanceNorm(_ChannelNorm):
    _eval_when_frozen = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...), or (C, ...) of one sample -> the same shape."""
        self._check_rank(input)
        shape = tuple(input.shape)
        alone = len(shape) == self._ranks[0]
        channels = shape[0 if alone else 1]
        if channels != self.num_features:
            wanted = f"expected {self._expected}, C = {self.num_features}"
            raise ValueError(f"[{type(self).__name__}] got an input of shape {shape}, {wanted}")
        y = F.instance_norm(
            pydl.expand_dims(input, axis=0) if alone else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return pydl.squeeze(y, axis=0) if alone else y


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample of (N, C, L) or (C, L) to mean 0 and variance 1; Ulyanov et al., arXiv:1607.08022.

    Args:
        num_features: channels, C.
        eps: added to the variance; default 1e-5.
        momentum: how far the running statistics move towards a batch's; default 0.1.
        affine: whether there are ``weight`` and ``bias``, (C); default False.
        track_running_stats: whether there are running statistics, which evaluation then uses; default False.
        device, dtype: of all tensors; default CPU and float32.
        bias: with False and affine there is only a weight; default True.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.InstanceNorm1d(1, eps=0.0)(pydl.asarray([[[1.0, 3.0]], [[10.0, 30.0]]])).numpy().ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    _ranks = (2, 3)
    _expected = "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    """The same of (N, C, H, W) or (C, H, W); arguments as :class:`InstanceNorm1d`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.InstanceNorm2d(3)(pydl.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    _ranks = (3, 4)
    _expected = "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """The same of (N, C, D, H, W) or (C, D, H, W); arguments as :class:`InstanceNorm1d`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.InstanceNorm3d(3)(pydl.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 4, 4, 4)
    """

    _ranks = (4, 5)
    _expected = "(N, C, D, H, W) or (C, D, H, W)"


class _LastAxesNorm(Module):
    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: int | Sequence[int], elementwise_affine: bool, bias: bool, device: Any, dtype: Any
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not shape or any(n < 0 for n in shape):
            raise ValueError(f"[{type(self).__name__}] got normalized_shape {shape}, expected one or more sizes")
        self.normalized_shape = shape
        self.elementwise_affine = elementwise_affine
        new = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(pydl.ones(shape, **new)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(pydl.zeros(shape, **new)) if elementwise_affine and bias else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        with pydl.no_grad():
            if self.weight is not None:
                self.weight.fill_(1)
            if self.bias is not None:
                self.bias.zero_()


class LayerNorm(_LastAxesNorm):
    """Each sample's last axes to mean 0 and variance 1, then scaled: (x - mean) / √(var + eps) · weight + bias.

    Ba et al., "Layer normalization", arXiv:1607.06450.

    Args:
        normalized_shape: the sizes of the last axes, which are normalized together.
        eps: added to the variance; default 1e-5.
        elementwise_affine: whether there are ``weight`` and ``bias``, of normalized_shape, starting at 1 and 0.
        bias: with False there is only a weight; default True.
        device, dtype: of the parameters; default CPU and float32.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LayerNorm(2, eps=0.0)(pydl.asarray([[1.0, 3.0], [10.0, 30.0]])).detach().numpy().tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, bias, device, dtype)
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:
        """(..., *normalized_shape) -> the same shape."""
        return _C.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(_LastAxesNorm):
    """Each sample's last axes to mean square 1, then scaled: x / √(mean(x²) + eps) · weight.

    Zhang and Sennrich, "Root mean square layer normalization", arXiv:1910.07467.

    Args:
        normalized_shape: the sizes of the last axes, which are normalized together.
        eps: added to the mean square; default: the input dtype's machine epsilon.
        elementwise_affine: whether there is a ``weight``, of normalized_shape, starting at 1.
        device, dtype: of the weight; default CPU and float32.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.RMSNorm(2, eps=0.0)(pydl.asarray([1.0, 7.0])).detach().numpy().round(4).tolist()
    [0.20000000298023224, 1.399999976158142]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__(normalized_shape, elementwise_affine, False, device, dtype)
        del self.bias  # PyTorch's has none, not even by name
        self.eps = eps

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        with pydl.no_grad():
            if self.weight is not None:
                self.weight.fill_(1)

    def forward(self, input: Tensor) -> Tensor:
        """(..., *normalized_shape) -> the same shape."""
        return _C.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Groups of each sample's channels to mean 0 and variance 1, each channel then scaled; Wu and He, arXiv:1803.08494.

    Args:
        num_groups: C is a multiple of it; 1 normalizes each sample, C each channel.
        num_channels: C, the size of axis 1.
        eps: added to the variance; default 1e-5.
        affine: whether there are ``weight`` and ``bias``, (C), starting at 1 and 0; default True.
        device, dtype: of the parameters; default CPU and float32.
        bias: with False and affine there is only a weight; default True.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.GroupNorm(2, 6)(pydl.ones((20, 6, 10, 10))).shape
    (20, 6, 10, 10)
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        **attached: Unpack[AttachedToNorm],
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            got = f"{num_groups} groups of {num_channels} channels"
            raise ValueError(f"[GroupNorm] got {got}, expected a number of channels that the groups divide")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        new = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(pydl.ones((num_channels,), **new)) if affine else None)
        self.register_parameter("bias", Parameter(pydl.zeros((num_channels,), **new)) if affine and bias else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        with pydl.no_grad():
            if self.weight is not None:
                self.weight.fill_(1)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LocalResponseNorm(Module):
    """x / (k + α·mean(x²))^β, the mean over ``size`` neighbouring channels; arguments as ``functional``'s.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LocalResponseNorm(2)(pydl.ones((2, 5, 4, 4))).shape
    (2, 5, 4, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
