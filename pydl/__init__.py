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
from pydl._compositions import *  # noqa: F403
from pydl._einsum import einsum
from pydl._functions import *  # noqa: F403
from pydl._tensor import EnableGrad as enable_grad
from pydl._tensor import NoGrad as no_grad
from pydl._tensor import SetGradEnabled as set_grad_enabled
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
    "text",
    "train",
    "utils",
)
_CLASSES = {
    "History": "pydl.train.history",
    "Trainer": "pydl.train.trainer",
    "detect_anomaly": "pydl.train.anomaly",
}
_FROM_NESTED = ("save", "load")

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
        text,
        train,
        utils,
    )
    from pydl._nested import load, save
    from pydl.train.anomaly import detect_anomaly
    from pydl.train.history import History
    from pydl.train.trainer import Trainer


def __getattr__(name: str) -> Any:
    """Subpackages are imported when first used."""
    from importlib import import_module

    if name in _LAZY:
        return import_module(f"pydl.{name}")
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    if name in _FROM_NESTED:
        return getattr(import_module("pydl._nested"), name)
    raise AttributeError(f"module 'pydl' has no attribute {name!r}")
