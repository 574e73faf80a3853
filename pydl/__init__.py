"""pydl: a small deep-learning library whose hot code is C++. Arrays, gradients, layers, training, for the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl import _C, _functions, autograd, backend
from pydl._aliases import FUNCTIONS as _ALIASES
from pydl._C import (
    AutogradError,
    Device,
    DType,
    Generator,
    bfloat16,
    bool_,
    default_generator,
    float16,
    float32,
    float64,
    get_num_threads,
    int8,
    int16,
    int32,
    int64,
    is_grad_enabled,
    set_num_threads,
    uint8,
    uint16,
    uint32,
    uint64,
)
from pydl._C import bool_ as bool
from pydl._einsum import einsum
from pydl._functions import *  # noqa: F403
from pydl._grad_mode import EnableGrad as enable_grad
from pydl._grad_mode import NoGrad as no_grad
from pydl._grad_mode import SetGradEnabled as set_grad_enabled
from pydl._tensor import Tensor

__version__: str = _C.__version__
__array_api_version__ = "2024.12"

double = float64
float = float32
half = float16
int = int32
long = int64
device = Device
dtype = DType
inference_mode = no_grad

e = 2.718281828459045
inf = _functions.math.inf
nan = _functions.math.nan
newaxis = None
pi = 3.141592653589793

for _theirs, _ours in _ALIASES.items():
    globals()[_theirs] = getattr(_functions, _ours)

_LAZY = (
    "accelerator",
    "callbacks",
    "cli",
    "constraints",
    "cuda",
    "data",
    "examples",
    "kernels",
    "linalg",
    "metrics",
    "models",
    "nn",
    "optim",
    "plots",
    "regularizers",
    "serialization",
    "special",
    "text",
    "train",
    "utils",
)
_FROM_TRAIN = ("History", "Trainer", "detect_anomaly")
_FROM_NESTED = ("save", "load")

# Functions of pydl.nn.functional that PyTorch has here as well, with the same arguments.
_NETWORK = frozenset(
    [
        "adaptive_avg_pool1d",
        "adaptive_max_pool1d",
        "alpha_dropout",
        "avg_pool1d",
        "bilinear",
        "binary_cross_entropy_with_logits",
        "celu",
        "channel_shuffle",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "cosine_embedding_loss",
        "cosine_similarity",
        "ctc_loss",
        "dropout",
        "feature_alpha_dropout",
        "group_norm",
        "hardshrink",
        "hinge_embedding_loss",
        "layer_norm",
        "margin_ranking_loss",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "pairwise_distance",
        "pdist",
        "pixel_shuffle",
        "pixel_unshuffle",
        "prelu",
        "rms_norm",
        "rrelu",
        "selu",
        "threshold",
        "triplet_margin_loss",
    ]
)
_TYPES = ("FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "LongTensor", "IntTensor", "ShortTensor",
          "CharTensor", "ByteTensor", "BoolTensor")  # fmt: skip

if TYPE_CHECKING:
    from pydl import (
        accelerator,
        callbacks,
        constraints,
        cuda,
        data,
        kernels,
        linalg,
        metrics,
        models,
        nn,
        optim,
        plots,
        regularizers,
        serialization,
        special,
        text,
        train,
        utils,
    )
    from pydl._compositions import *  # noqa: F403
    from pydl._nested import load, save
    from pydl._typed import *  # noqa: F403
    from pydl.train.anomaly import detect_anomaly
    from pydl.train.history import History
    from pydl.train.trainer import Trainer


def __getattr__(name: str) -> Any:
    """Subpackages, and what is made of ops, are imported when first used."""
    from importlib import import_module

    if name in _LAZY:
        return import_module(f"pydl.{name}")
    if name in _FROM_TRAIN:
        return getattr(import_module("pydl.train"), name)
    if name in _FROM_NESTED:
        return getattr(import_module("pydl._nested"), name)
    if name in _TYPES:
        return getattr(import_module("pydl._typed"), name)
    if name in _NETWORK:
        return getattr(import_module("pydl.nn.functional"), name)
    if not name.startswith("_"):
        compositions = import_module("pydl._compositions")
        if name in compositions.__all__:
            globals()[name] = getattr(compositions, name)
            return globals()[name]
        if name.endswith("_") and (method := getattr(Tensor, name, None)) is not None:
            return method  # relu_(x) is x.relu_()
    raise AttributeError(f"module 'pydl' has no attribute {name!r}")


def __dir__() -> list[str]:
    from pydl import _compositions

    return sorted({*globals(), *_compositions.__all__, *_LAZY, *_FROM_TRAIN, *_FROM_NESTED})
