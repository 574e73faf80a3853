"""The functions behind the layers, without parameters of their own: thin names for the ops of the extension."""

from __future__ import annotations

from pydl.nn.functional import (
    _activation,
    _attention,
    _convolution,
    _distance,
    _dropout,
    _embedding,
    _fractional_pooling,
    _interpolation,
    _linear,
    _loss,
    _margin_loss,
    _normalization,
    _padding,
    _pooling,
    _recurrent,
    _sampling,
)
from pydl.nn.functional._activation import *  # noqa: F403
from pydl.nn.functional._attention import *  # noqa: F403
from pydl.nn.functional._convolution import *  # noqa: F403
from pydl.nn.functional._distance import *  # noqa: F403
from pydl.nn.functional._dropout import *  # noqa: F403
from pydl.nn.functional._embedding import *  # noqa: F403
from pydl.nn.functional._fractional_pooling import *  # noqa: F403
from pydl.nn.functional._interpolation import *  # noqa: F403
from pydl.nn.functional._linear import *  # noqa: F403
from pydl.nn.functional._loss import *  # noqa: F403
from pydl.nn.functional._margin_loss import *  # noqa: F403
from pydl.nn.functional._normalization import *  # noqa: F403
from pydl.nn.functional._padding import *  # noqa: F403
from pydl.nn.functional._pooling import *  # noqa: F403
from pydl.nn.functional._recurrent import *  # noqa: F403
from pydl.nn.functional._sampling import *  # noqa: F403

__all__: list[str] = []
for _part in (
    _activation,
    _attention,
    _convolution,
    _distance,
    _dropout,
    _embedding,
    _fractional_pooling,
    _interpolation,
    _linear,
    _loss,
    _margin_loss,
    _normalization,
    _padding,
    _pooling,
    _recurrent,
    _sampling,
):
    __all__ += _part.__all__
del _part
