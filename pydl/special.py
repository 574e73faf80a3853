"""Special functions under PyTorch's names, as ``pydl.special.digamma``: what :mod:`pydl` has of them."""

from __future__ import annotations

from pydl._compositions.special import *  # noqa: F403
from pydl._compositions.special import __all__ as _own
from pydl._functions import erf, erfc, exp2, expm1, log1p, log_softmax, logsumexp, softmax

__all__ = [*_own, "erf", "erfc", "exp2", "expm1", "log1p", "log_softmax", "logsumexp", "softmax"]
