"""Methods of Tensor that are functions of the package: found when first used, then kept on the class."""

from __future__ import annotations

from typing import Any

from pydl import _C
from pydl._aliases import FUNCTIONS, METHODS
from pydl._tensor import Tensor

# Methods that are a function of the package with the tensor as its first argument.
_FUNCTION_METHODS = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "addmm",
        "all",
        "allclose",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bernoulli",
        "bitwise_and",
        "bitwise_invert",
        "bitwise_left_shift",
        "bitwise_or",
        "bitwise_right_shift",
        "bitwise_xor",
        "ceil",
        "chunk",
        "clip",
        "copysign",
        "cos",
        "cosh",
        "count_nonzero",
        "cumulative_prod",
        "cumulative_sum",
        "diagonal",
        "divide",
        "dot",
        "equal",
        "erf",
        "erfc",
        "exp",
        "exp2",
        "expand_dims",
        "expm1",
        "flip",
        "floor",
        "floor_divide",
        "fmod",
        "gather",
        "greater",
        "greater_equal",
        "hypot",
        "index_select",
        "isclose",
        "isfinite",
        "isinf",
        "isnan",
        "lerp",
        "less",
        "less_equal",
        "log",
        "log10",
        "log1p",
        "log2",
        "log_softmax",
        "logaddexp",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "logsumexp",
        "masked_fill",
        "matmul",
        "maximum",
        "mean",
        "minimum",
        "moveaxis",
        "multinomial",
        "multiply",
        "negative",
        "nextafter",
        "nonzero",
        "norm",
        "not_equal",
        "outer",
        "positive",
        "pow",
        "prod",
        "reciprocal",
        "relu",
        "remainder",
        "repeat_interleave",
        "roll",
        "round",
        "rsqrt",
        "scatter",
        "scatter_add",
        "sigmoid",
        "sign",
        "signbit",
        "sin",
        "sinh",
        "softmax",
        "split",
        "sqrt",
        "square",
        "sum",
        "swap_axes",
        "take",
        "take_along_axis",
        "tan",
        "tanh",
        "tile",
        "topk",
        "trace",
        "tril",
        "triu",
        "trunc",
        "unique_values",
        "unstack",
        "where",
    ]
)


def _functions() -> Any:
    from pydl import _functions

    return _functions


def _function_of(name: str) -> Any:
    """The function that is also a method under a name, or None."""
    if name in _FUNCTION_METHODS:
        return getattr(_functions(), name)
    from pydl import _compositions

    known = name in _compositions.__all__ and name not in _compositions.NO_METHODS
    return getattr(_compositions, name) if known else None


def method_names() -> list[str]:
    """All names that find_method knows, but for in-place forms."""
    from pydl import _compositions

    return [*METHODS, *_FUNCTION_METHODS, *(n for n in _compositions.__all__ if n not in _compositions.NO_METHODS)]


def find_method(name: str) -> Any:
    """The method behind a name, made once and kept on the class; None where there is none."""
    ours = METHODS.get(name) or FUNCTIONS.get(name, name)
    if name.endswith("_") and name not in METHODS and not name.endswith("__"):
        ours = (METHODS.get(name[:-1]) or FUNCTIONS.get(name[:-1], name[:-1])) + "_"
    if ours in Tensor.__dict__:
        method = Tensor.__dict__[ours]
    elif ours in ("var", "std"):
        method = _spread(ours)
    elif ours.startswith("_") or ours.endswith("__"):
        return None
    elif (function := _function_of(ours)) is not None:
        method = _method_of(function, ours)
    elif ours.endswith("_") and (function := _function_of(ours[:-1]) or Tensor.__dict__.get(ours[:-1])) is not None:
        method = _in_place(function, ours)
    else:
        return None
    setattr(Tensor, name, method)
    return method


def _method_of(function: Any, name: str) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if kwargs and kwargs.get("out", False) is None:  # as NumPy's functions call methods of what is no ndarray
            del kwargs["out"]
        return function(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = function.__doc__
    return method


_SHAPING = ("squeeze_", "expand_dims_", "swap_axes_", "t_")


def _in_place(function: Any, name: str) -> Any:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if name not in _SHAPING:
            _C.assign(name, self, function(self, *args, **kwargs))
        elif self.requires_grad:
            raise _C.AutogradError(f"[{name}] can't reshape a tensor with a gradient in place; use {name[:-1]}()")
        else:
            _C.set_data(self, function(self, *args, **kwargs))
        return self

    method.__doc__ = function.__doc__
    return method


def _spread(name: str) -> Any:
    # As a method the correction is PyTorch's: x.var() divides by n - 1.
    def method(self: Tensor, axis: Any = None, correction: Any = 1, keepdims: Any = False, **kwargs: Any) -> Tensor:
        if isinstance(axis, bool):  # x.var(unbiased)
            axis, correction = None, axis
        axis = kwargs.pop("dim", axis)
        keepdims = kwargs.pop("keepdim", keepdims)
        correction = kwargs.pop("unbiased", correction)
        if kwargs:
            raise TypeError(f"[{name}] got the unknown argument {next(iter(kwargs))!r}")
        y = _C.var(self, axis, 1.0 if correction is None else float(correction), keepdims)
        return y if name == "var" else _C.sqrt(y)

    return method
