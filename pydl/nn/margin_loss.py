"""Losses of margins, rankings and distances as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.loss import Loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl import Tensor

__all__ = [
    "CosineEmbeddingLoss",
    "HingeEmbeddingLoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class _MarginLoss(Loss):
    """A loss with a margin before the reduction."""

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin


class MarginRankingLoss(_MarginLoss):
    """max(0, margin - y (x1 - x2)): x1 should rank above x2 where y is 1, below where it is -1.

    Args:
        margin: default 0.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> a, b, y = pydl.asarray([1.0, 2.0]), pydl.asarray([3.0, 0.0]), pydl.asarray([1.0, 1.0])
    >>> nn.MarginRankingLoss(reduction="none")(a, b, y).numpy().tolist()
    [2.0, 0.0]
    """

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Three tensors of one shape -> loss."""
        return F.margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


class HingeEmbeddingLoss(_MarginLoss):
    """A distance x where y is 1, max(0, margin - x) where y is -1.

    Args:
        margin: default 1.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.HingeEmbeddingLoss(reduction="none")(pydl.asarray([2.0, 0.25]), pydl.asarray([1, -1])).numpy().tolist()
    [2.0, 0.75]
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Distances and signs of one shape -> loss."""
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class CosineEmbeddingLoss(_MarginLoss):
    """1 - cos(x1, x2) where y is 1, max(0, cos(x1, x2) - margin) where y is -1.

    Args:
        margin: from -1 to 1; default 0.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        inputs (N, D) with the target (N), or (D) with ().

    >>> import pydl
    >>> from pydl import nn
    >>> nn.CosineEmbeddingLoss()(pydl.ones((1, 2)), pydl.asarray([[1.0, -1.0]]), pydl.asarray([1])).item()
    1.0
    """

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        """Two batches of vectors and a sign for each pair -> loss."""
        return F.cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


class MultiLabelMarginLoss(Loss):
    """Σ_ij max(0, 1 - (x_j - x_i)) / C over the labels j of a row and the other classes i.

    Args:
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input and target (N, C) or (C); a row of the target lists labels, what follows its first -1 does not count.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MultiLabelMarginLoss()(pydl.asarray([[0.5, 1.0]]), pydl.asarray([[1, -1]])).item()
    0.25
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Scores and lists of labels -> loss."""
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiMarginLoss(Loss):
    """Σ_i w_y max(0, margin - x_y + x_i)^p / C over the classes i other than y.

    Args:
        p: 1 (default) or 2.
        margin: default 1.
        weight: one factor for each class, (C); default none.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        input (N, C) or (C), target (N) or ().

    >>> import pydl
    >>> from pydl import nn
    >>> nn.MultiMarginLoss()(pydl.asarray([[0.5, 1.0]]), pydl.asarray([1])).item()
    0.25
    """

    weight: Tensor | None

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if p not in (1, 2):
            raise ValueError(f"[MultiMarginLoss] got p = {p}, expected 1 or 2")
        self._keep_weight(weight)
        self.p = p
        self.margin = margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Scores and class numbers -> loss."""
        return F.multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


class TripletMarginLoss(_MarginLoss):
    """max(0, margin + d(a, p) - d(a, n)) for an anchor, something like it and something unlike it; d the p-norm.

    Args:
        margin: more than 0; default 1.
        p: of the norm; default 2.
        eps: added to differences; default 1e-6.
        swap: take d(p, n) where it is smaller than d(a, n); default False. Balntas et al. (2016).
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    Shapes:
        three tensors (N, D) or (D); output a scalar, or (N) or () for ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> a, p, n = pydl.zeros((1, 2)), pydl.asarray([[3.0, 4.0]]), pydl.asarray([[0.0, 2.0]])
    >>> round(nn.TripletMarginLoss()(a, p, n).item(), 3)
    4.0
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)
        if not margin > 0:
            raise ValueError(f"[TripletMarginLoss] got margin = {margin}, expected more than 0")
        self.p = p
        self.eps = eps
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Three batches of vectors -> loss."""
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, reduction=self.reduction
        )


class TripletMarginWithDistanceLoss(_MarginLoss):
    """max(0, margin + d(a, p) - d(a, n)) with any distance d.

    Args:
        distance_function: of two tensors; default the pairwise distance.
        margin: more than 0; default 1.
        swap: as in :class:`TripletMarginLoss`.
        reduction: ``"mean"`` (default), ``"sum"`` or ``"none"``.

    >>> import pydl
    >>> from pydl import nn
    >>> loss = nn.TripletMarginWithDistanceLoss(distance_function=lambda x, y: abs(x - y).sum(axis=-1))
    >>> loss(pydl.zeros((1, 2)), pydl.ones((1, 2)), pydl.ones((1, 2))).item()
    1.0
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, reduction=reduction)
        if not margin > 0:
            raise ValueError(f"[TripletMarginWithDistanceLoss] got margin = {margin}, expected more than 0")
        self.distance_function = F.pairwise_distance if distance_function is None else distance_function
        self.swap = swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Three batches -> loss."""
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )
