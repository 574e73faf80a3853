"""Dropout: units or whole channels left out at random while training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydl.nn import functional as F
from pydl.nn.functional._dropout import check_probability
from pydl.nn.module import Module

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(Module):
    """A layer with a probability.

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(type(self).__name__, p)
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability p while training, and scale the others by 1/(1-p); nothing in evaluation.

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.
        classical: the paper's own form: no scaling while training, and 1-p times everything in evaluation; default
            False.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Dropout(0.9).eval()(pydl.ones((3,))).numpy().tolist()
    [1.0, 1.0, 1.0]
    >>> nn.Dropout(0.75, classical=True).eval()(pydl.ones((3,))).numpy().tolist()
    [0.25, 0.25, 0.25]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, classical: bool = False) -> None:
        super().__init__(p, inplace)
        self.classical = classical

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.dropout(input, self.p, self.training, classical=self.classical)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return super().extra_repr() + (", classical=True" if self.classical else "")


class Dropout1d(_Dropout):
    """Zero whole channels of (N, C, L) or (C, L) while training, and scale the others by 1/(1-p).

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> y = nn.Dropout1d()(pydl.ones((4, 8, 3)))
    >>> bool((y[:, :, 0] == y[:, :, 2]).all())
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, L) or (C, L) -> the same shape."""
        return F.dropout1d(input, self.p, self.training)


class Dropout2d(_Dropout):
    """Zero whole channels of (N, C, H, W) while training, and scale the others by 1/(1-p).

    Neighbouring pixels know each other, so dropping single ones drops little. Tompson et al., arXiv:1411.4280 (2014).

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Dropout2d()(pydl.ones((4, 8, 3, 3))).shape
    (4, 8, 3, 3)
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) or (N, C, L) -> the same shape."""
        return F.dropout2d(input, self.p, self.training)


class Dropout3d(_Dropout):
    """Zero whole channels of (N, C, D, H, W) or (C, D, H, W) while training, and scale the others by 1/(1-p).

    Args:
        p: probability of a zero; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Dropout3d()(pydl.ones((2, 4, 2, 2, 2))).shape
    (2, 4, 2, 2, 2)
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, D, H, W) or (C, D, H, W) -> the same shape."""
        return F.dropout3d(input, self.p, self.training)


class AlphaDropout(_Dropout):
    """Dropout for SELU: dropped elements take its value far left, so that mean 0 and variance 1 are kept.

    Klambauer et al., "Self-normalizing neural networks", arXiv:1706.02515 (2017).

    Args:
        p: probability of dropping; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.AlphaDropout()(pydl.ones((4, 8))).shape
    (4, 8)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_Dropout):
    """:class:`AlphaDropout` of whole channels of (N, C, ...).

    Args:
        p: probability of dropping; default 0.5.
        inplace: accepted and ignored.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.FeatureAlphaDropout()(pydl.ones((4, 8, 3, 3))).shape
    (4, 8, 3, 3)
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        return F.feature_alpha_dropout(input, self.p, self.training)
