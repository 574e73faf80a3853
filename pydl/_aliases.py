"""PyTorch's spelling beside the array API's, where the meaning is the same: the one table, and how it is applied.

pydl's own code and documentation use the array API's names only.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

# Argument names: PyTorch's -> ours.
KEYWORDS = {
    "dim": "axis",
    "dims": "axis",
    "keepdim": "keepdims",
    "input": "x",
    "other": "x2",
    "index": "indices",
    "unbiased": "correction",
    "dim0": "axis1",
    "dim1": "axis2",
    "size": "shape",
    "tensors": "arrays",
    "shifts": "shift",
    "diagonal": "k",
    "end": "stop",
    "steps": "num",
}

# Functions of the package: PyTorch's name -> ours.
FUNCTIONS = {
    "absolute": "abs",
    "neg": "negative",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "cat": "concat",
    "concatenate": "concat",
    "clamp": "clip",
    "cumsum": "cumulative_sum",
    "cumprod": "cumulative_prod",
    "true_divide": "divide",
    "eq": "equal",
    "fix": "trunc",
    "ge": "greater_equal",
    "sgn": "sign",
    "unsafe_chunk": "chunk",
    "unsafe_split": "split",
    "gt": "greater",
    "le": "less_equal",
    "lt": "less",
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "mul": "multiply",
    "ne": "not_equal",
    "bitwise_not": "bitwise_invert",
    "permute": "permute_dims",
    "sub": "subtract",
    "swapaxes": "swap_axes",
    "transpose": "swap_axes",
    "swapdims": "swap_axes",
    "unsqueeze": "expand_dims",
    "unbind": "unstack",
    "movedim": "moveaxis",
    "broadcast_tensors": "broadcast_arrays",
    "as_tensor": "asarray",
    "from_numpy": "asarray",
}

# Methods of Tensor: PyTorch's name -> ours.
METHODS = {
    "absolute": "abs",
    "neg": "negative",
    "clamp": "clip",
    "clamp_": "clip_",
    "cumsum": "cumulative_sum",
    "cumprod": "cumulative_prod",
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "le": "less_equal",
    "lt": "less",
    "mm": "matmul",
    "bmm": "matmul",
    "mul": "multiply",
    "mul_": "multiply_",
    "ne": "not_equal",
    "sub": "subtract",
    "sub_": "subtract_",
    "permute": "permute_dims",
    "transpose": "swap_axes",
    "swapaxes": "swap_axes",
    "unsqueeze": "expand_dims",
    "expand": "broadcast_to",
    "movedim": "moveaxis",
    "unbind": "unstack",
    "swapdims": "swap_axes",
}


def in_its_own_name(function: F) -> F:
    """Name this function in messages of the ops that it is made of."""
    name = function.__name__

    @wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            text = str(error)
            if text.startswith("[") and "] " in text:
                error.args = (f"[{name}] {text.partition('] ')[2]}", *error.args[1:])
            elif text == "tuple index out of range" and args and hasattr(args[0], "ndim"):
                error.args = (f"[{name}] an axis is out of range for a tensor of {args[0].ndim} axes",)
            raise

    return named  # type: ignore[return-value]


def torch_keywords(function: F) -> F:
    """Accept PyTorch's argument names beside the function's own."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    known = {theirs: ours for theirs, ours in KEYWORDS.items() if ours in names and theirs not in names}
    if not known:
        return function

    @wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for name in list(kwargs):
                if name in known:
                    kwargs[known[name]] = kwargs.pop(name)
        return function(*args, **kwargs)

    return renamed  # type: ignore[return-value]
