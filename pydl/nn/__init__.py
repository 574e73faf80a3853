"""Layers, losses and what goes with them. Arguments, names and defaults are PyTorch's."""

from __future__ import annotations

from pydl.nn import (
    activation,
    adaptive,
    attention,
    containers,
    convolution,
    distance,
    dropout,
    embedding,
    fractional_pooling,
    functional,
    hard_activation,
    init,
    lazy,
    linear,
    loss,
    margin_loss,
    module,
    normalization,
    padding,
    parallel,
    pooling,
    quantized,
    recurrent,
    recurrent_cells,
    softmax,
    sync_norm,
    transformer,
    upsampling,
    utils,
)
from pydl.nn.activation import *  # noqa: F403
from pydl.nn.adaptive import *  # noqa: F403
from pydl.nn.attention import *  # noqa: F403
from pydl.nn.containers import *  # noqa: F403
from pydl.nn.convolution import *  # noqa: F403
from pydl.nn.distance import *  # noqa: F403
from pydl.nn.dropout import *  # noqa: F403
from pydl.nn.embedding import *  # noqa: F403
from pydl.nn.fractional_pooling import *  # noqa: F403
from pydl.nn.hard_activation import *  # noqa: F403
from pydl.nn.lazy import *  # noqa: F403
from pydl.nn.linear import *  # noqa: F403
from pydl.nn.loss import *  # noqa: F403
from pydl.nn.margin_loss import *  # noqa: F403
from pydl.nn.module import *  # noqa: F403
from pydl.nn.normalization import *  # noqa: F403
from pydl.nn.padding import *  # noqa: F403
from pydl.nn.parallel import *  # noqa: F403
from pydl.nn.pooling import *  # noqa: F403
from pydl.nn.quantized import *  # noqa: F403
from pydl.nn.recurrent import *  # noqa: F403
from pydl.nn.recurrent_cells import *  # noqa: F403
from pydl.nn.softmax import *  # noqa: F403
from pydl.nn.sync_norm import *  # noqa: F403
from pydl.nn.transformer import *  # noqa: F403
from pydl.nn.upsampling import *  # noqa: F403

__all__ = ["functional", "init", "utils"]
for _part in (
    activation,
    adaptive,
    attention,
    containers,
    convolution,
    distance,
    dropout,
    embedding,
    fractional_pooling,
    hard_activation,
    lazy,
    linear,
    loss,
    margin_loss,
    module,
    normalization,
    padding,
    parallel,
    pooling,
    quantized,
    recurrent,
    recurrent_cells,
    softmax,
    sync_norm,
    transformer,
    upsampling,
):
    __all__ += _part.__all__
del _part
