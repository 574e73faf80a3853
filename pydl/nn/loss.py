"""Losses as modules, for those who like them as objects; the formulas are functional's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """A loss with a reduction: "mean" (default), "sum" or "none"."""

    def __init__(self, reduction: str = "mean", known: tuple[str, ...] = ("mean", "sum", "none")) -> None:
        super().__init__()
        if reduction not in known:
            raise ValueError(f"[{type(self).__name__}] got reduction {reduction!r}, expected one of {', '.join(known)}")
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
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

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"[CrossEntropyLoss] got label_smoothing {label_smoothing}, expected a share from 0 to 1")
        self.register_buffer("weight", weight)
        self.weight: Tensor | None
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets -> loss."""
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_Loss):
    """Negative log-likelihood: -w_y x_y for log-probabilities x and the class number y.

    Args:
        weight: one factor for each class, (C); default none. The mean is then divided by the weights' sum.
        ignore_index: targets with this number count for nothing; default -100.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input (N, C, ...) or (C), target (N, ...) or ().

    >>> import pydl
    >>> from pydl import nn
    >>> nn.NLLLoss()(pydl.asarray([[-1.0, -2.0]]), pydl.asarray([1])).item()
    2.0
    """

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.weight: Tensor | None
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities and class numbers -> loss."""
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class MSELoss(_Loss):
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
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
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
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Loss):
    """(x - y)²/2β where |x - y| < β, otherwise |x - y| - β/2. Girshick, arXiv:1504.08083.

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        beta: where the parabola ends; default 1; 0 gives :class:`L1Loss`.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.SmoothL1Loss(reduction="none")(pydl.asarray([0.5, 3.0]), pydl.zeros((2,))).numpy().tolist()
    [0.125, 2.5]
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        if not beta >= 0:
            raise ValueError(f"[SmoothL1Loss] got beta = {beta}, expected 0 or more")
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Loss):
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
        super().__init__(reduction)
        if not delta > 0:
            raise ValueError(f"[HuberLoss] got delta = {delta}, expected more than 0")
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two tensors of one shape -> loss."""
        return F.huber_loss(input, target, self.reduction, self.delta)


class BCELoss(_Loss):
    """Binary cross-entropy -(y log p + (1 - y) log(1 - p)) of probabilities; :class:`BCEWithLogitsLoss` is safer.

    Args:
        weight: a factor for each element, any shape that broadcasts; default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.BCELoss()(pydl.asarray([0.5]), pydl.asarray([1.0])).item(), 4)
    0.6931
    """

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.weight: Tensor | None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Probabilities and targets of one shape -> loss."""
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and binary cross-entropy in one: -(w_p y log σ(x) + (1 - y) log(1 - σ(x))).

    Args:
        weight: a factor for each element, any shape that broadcasts; default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.
        pos_weight: factor w_p for positive targets, any shape that broadcasts; default none.

    >>> import pydl
    >>> from pydl import nn
    >>> round(nn.BCEWithLogitsLoss()(pydl.zeros((1,)), pydl.asarray([1.0])).item(), 4)
    0.6931
    """

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.weight: Tensor | None
        self.pos_weight: Tensor | None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets of one shape -> loss."""
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(_Loss):
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

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, ("mean", "batchmean", "sum", "none"))
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities and targets of one shape -> loss."""
        return F.kl_div(input, target, self.reduction, self.log_target)
