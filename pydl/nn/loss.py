"""Losses as modules, for those who like them as objects; the formulas are functional's.

``size_average`` and ``reduce`` are what PyTorch had before ``reduction``; they are accepted and override it. Losses of
margins and distances are in margin_loss.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from pydl.nn import functional as F
from pydl.nn.functional._loss import reduction_of
from pydl.nn.linear import Linear
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "LinearCrossEntropyLoss",
    "MSELoss",
    "MultiLabelSoftMarginLoss",
    "NLLLoss",
    "NLLLoss2d",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
]


class Loss(Module):
    """What all losses have: a reduction, "mean" (default), "sum" or "none"."""

    _reductions: tuple[str, ...] = ()  # beside those three

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction_of(type(self).__name__, reduction, size_average, reduce, self._reductions)

    def _keep_weight(self, weight: Tensor | None, name: str = "weight") -> None:
        self.register_buffer(name, weight)


class CrossEntropyLoss(Loss):
    """Softmax and cross-entropy in one: -Σ_c w_c y_c log softmax(x)_c.

    Args:
        weight: one factor for each class, (C); default none. The mean is then divided by the weights' sum.
        ignore_index: targets with this number count for nothing; default -100.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        label_smoothing: share of the target spread over all classes, from 0 (default) to 1. Szegedy et al. (2016).

    Shapes:
        input of logits (N, C, ...) or (C); target of class numbers (N, ...) or (), or of probabilities shaped as the
        input; output a scalar, or shaped as the class numbers for ``"none"``.

    Raises:
        ValueError: shapes that do not fit. IndexError: a class number outside [0, C).

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.CrossEntropyLoss()(pydl.zeros((5, 10)), pydl.zeros((5,), dtype=pydl.int64)).item(), 4)
    2.3026
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"[CrossEntropyLoss] got label_smoothing {label_smoothing}, expected a share from 0 to 1")
        self._keep_weight(weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets -> loss."""
        return F.cross_entropy(
            input, target, self.weight, None, self.ignore_index, None, self.reduction, self.label_smoothing
        )


class LinearCrossEntropyLoss(Loss):
    """A dense layer and the cross-entropy of the logits it makes, as one module.

    Args:
        in_features: D, size of the input.
        num_classes: C.
        out_features: sizes of further axes of the logits, (C, *out_features) for each input; default none.
        bias: whether the layer has a bias; default False.
        device, dtype: of its parameters; default CPU and float32.
        reduction, weight, ignore_index, label_smoothing: as in :class:`CrossEntropyLoss`.
        options: accepted and ignored.

    Shapes:
        input (N, D) or (D), target (N, *out_features) or () of class numbers, or probabilities (N, C, *out_features).

    >>> import pydl
    >>> from pydl import nn
    >>> nn.LinearCrossEntropyLoss(8, 10)(pydl.ones((5, 8)), pydl.zeros((5,), dtype=pydl.int64)).shape
    ()
    """

    weight: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
    ) -> None:
        super().__init__(reduction=reduction)
        if not 0 <= label_smoothing <= 1:
            name = type(self).__name__
            raise ValueError(f"[{name}] got label_smoothing {label_smoothing}, expected a share from 0 to 1")
        self._keep_weight(weight)
        self.num_classes = num_classes
        self.out_features = tuple(out_features)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(in_features, prod(out_features, start=num_classes), bias, device, dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Features and targets -> loss."""
        shape = (self.num_classes, *self.out_features, self.linear.in_features)
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(shape),
            target,
            linear_bias=self.linear.bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Loss):
    """Negative log-likelihood: -w_y x_y for log-probabilities x and the class number y.

    Args:
        weight: one factor for each class, (C); default none. The mean is then divided by the weights' sum.
        ignore_index: targets with this number count for nothing; default -100. A mean of nothing is 0.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input (N, C, ...) or (C), target (N, ...) or ().

    >>> import pydl
    >>> from pydl import nn
    >>> nn.NLLLoss()(pydl.asarray([[-1.0, -2.0]]), pydl.asarray([1])).item()
    2.0
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._keep_weight(weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities and class numbers -> loss."""
        return F.nll_loss(input, target, self.weight, None, self.ignore_index, None, self.reduction)


NLLLoss2d = NLLLoss  # PyTorch's old name for images


class MSELoss(Loss):
    """Squared error (x - y)².

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MSELoss()(pydl.asarray([1.0, 2.0]), pydl.asarray([1.0, 4.0])).item()
    2.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(Loss):
    """Absolute error |x - y|.

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.L1Loss()(pydl.asarray([1.0, 2.0]), pydl.asarray([1.0, 4.0])).item()
    1.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(Loss):
    """(x - y)²/2β where |x - y| < β, otherwise |x - y| - β/2. Girshick, arXiv:1504.08083.

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        beta: where the parabola ends; default 1; 0 gives :class:`L1Loss`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.SmoothL1Loss(reduction="none")(pydl.asarray([0.5, 3.0]), pydl.zeros((2,))).numpy().tolist()
    [0.125, 2.5]
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if not beta >= 0:
            raise ValueError(f"[SmoothL1Loss] got beta = {beta}, expected 0 or more")
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(Loss):
    """(x - y)²/2 where |x - y| < δ, otherwise δ(|x - y| - δ/2). Huber, Annals of Statistics 35 (1964).

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        delta: where the parabola ends; default 1.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.HuberLoss(reduction="none", delta=2.0)(pydl.asarray([1.0, 3.0]), pydl.zeros((2,))).numpy().tolist()
    [0.5, 4.0]
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if not delta > 0:
            raise ValueError(f"[HuberLoss] got delta = {delta}, expected more than 0")
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class BCELoss(Loss):
    """Binary cross-entropy -(y log p + (1 - y) log(1 - p)) of probabilities; :class:`BCEWithLogitsLoss` is safer.

    Args:
        weight: a factor for each element, any shape that broadcasts; default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: an input outside [0, 1], such as a logit.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.BCELoss()(pydl.asarray([0.5]), pydl.asarray([1.0])).item(), 4)
    0.6931
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._keep_weight(weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Probabilities and targets of one shape -> loss."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(Loss):
    """Sigmoid and binary cross-entropy in one: -(w y log σ(x) + (1 - y) log(1 - σ(x))), without overflow.

    Args:
        weight: a factor for each element, any shape that broadcasts; default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        pos_weight: w, the weight of positive targets, any shape that broadcasts; default 1.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.BCEWithLogitsLoss()(pydl.zeros((3,)), pydl.ones((3,))).item(), 4)
    0.6931
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._keep_weight(weight)
        self._keep_weight(pos_weight, "pos_weight")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets of one shape -> loss."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class KLDivLoss(Loss):
    """Kullback-Leibler divergence y (log y - x) for log-probabilities x.

    Args:
        reduction: ``"mean"`` (default, over all elements), ``"batchmean"`` (the divergence itself), ``"sum"`` or
            ``"none"``.
        log_target: the target holds log-probabilities too; default False.

    >>> import pydl
    >>> from pydl import nn
    >>> log_p, y = pydl.log(pydl.asarray([[0.5, 0.5]])), pydl.asarray([[1.0, 0.0]])
    >>> round(nn.KLDivLoss(reduction="batchmean")(log_p, y).item(), 4)
    0.6931
    """

    _reductions = ("batchmean",)

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities and targets of one shape -> loss."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(Loss):
    """Negative log-likelihood of counts y with a Poisson rate: exp(x) - y x, or x - y log(x + ε).

    Args:
        log_input: the input is the logarithm of the rate; default True.
        full: add Stirling's approximation of log y!; default False.
        eps: ε; default 1e-8.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.PoissonNLLLoss()(pydl.zeros((2,)), pydl.asarray([3.0, 5.0])).item()
    1.0
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """(Logarithms of) rates and counts of one shape -> loss."""
        return F.poisson_nll_loss(log_input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction)


class GaussianNLLLoss(Loss):
    """Negative log-likelihood of a normal distribution: (log max(v, ε) + (x - y)²/max(v, ε))/2. Nix and Weigend (1994).

    Args:
        full: add the constant log(2π)/2; default False.
        eps: ε, the least variance; default 1e-6.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input and target (N, ...), variance the same, or with a last axis of 1 or without it.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.GaussianNLLLoss()(pydl.zeros((2,)), pydl.asarray([1.0, 2.0]), pydl.ones((2,))).item()
    1.25
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full = full
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        """Means, targets and variances -> loss."""
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class SoftMarginLoss(Loss):
    """log(1 + exp(-y x)) for targets y of -1 and 1.

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.SoftMarginLoss()(pydl.zeros((2,)), pydl.asarray([-1.0, 1.0])).item(), 4)
    0.6931
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(Loss):
    """Binary cross-entropy of logits, averaged over the classes: one loss for each row.

    Args:
        weight: one factor for each class, (C); default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input and target (N, C); output a scalar, or (N) for ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.MultiLabelSoftMarginLoss()(pydl.zeros((2, 3)), pydl.ones((2, 3))).item(), 4)
    0.6931
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._keep_weight(weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets -> loss."""
        return F.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


class CTCLoss(Loss):
    """Connectionist temporal classification: -log of the probability of the target, summed over all its alignments.

    An alignment names a class for each step; equal neighbours are merged, then blanks left out. Graves et al. (2006).

    Args:
        blank: the class that stands for nothing; default 0.
        reduction: ``"mean"`` (default; each loss is first divided by its target's length), ``"sum"`` or ``"none"``.
        zero_infinity: targets too long for their input have the loss and the gradient 0; default False.

    Shapes:
        log_probs (T, N, C) from log_softmax, targets (N, S) or all in one row, lengths (N); or (T, C), (S), (), ().

    As in PyTorch, the gradient is that for the logits of the log-softmax which made ``log_probs``. There is no second
    derivative.

    Raises:
        ValueError: lengths that do not fit. IndexError: a target outside [0, C).

    >>> import pydl
    >>> from pydl import nn
    >>> log_probs = nn.functional.log_softmax(pydl.zeros((2, 1, 3)), axis=2)
    >>> loss = nn.CTCLoss()(log_probs, pydl.asarray([[1]]), pydl.asarray([2]), pydl.asarray([1]))
    >>> round(pydl.exp(-loss).item(), 4)  # three of the nine alignments: 01, 10, 11
    0.3333
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        """Log-probabilities of sequences, their targets, and the lengths of both -> loss."""
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
