"""Methods of Tensor that are functions of the package: found when first used, then kept on the class."""

from __future__ import annotations

from typing import Any

from pydl import _C
from pydl._aliases import FUNCTIONS, METHODS
from pydl._method_names import COMPOSITION_METHODS, FUNCTION_METHODS
from pydl._tensor import Tensor


def _functions() -> Any:
    from pydl import _functions

    return _functions


def _function_of(name: str) -> Any:
    """The function that is also a method under a name, or None."""
    if name in FUNCTION_METHODS:
        return getattr(_functions(), name)
    if name in COMPOSITION_METHODS:
        from pydl import _compositions

        return getattr(_compositions, name)
    return None


def _in_place(name: str) -> Any:
    from pydl import _in_place

    return getattr(_in_place, name, None)


def find_method(name: str) -> Any:
    """The method behind one of the names of pydl._method_names or of the table of aliases, now kept on the class."""
    ours = METHODS.get(name) or FUNCTIONS.get(name, name)
    if name.endswith("_") and ours == name:
        ours = (METHODS.get(name[:-1]) or FUNCTIONS.get(name[:-1], name[:-1])) + "_"
    if ours != name and ours in Tensor.__dict__:
        method = getattr(Tensor, ours)
    elif ours in ("var", "std"):
        method = _spread(ours)
    elif (function := _function_of(ours)) is not None:
        method = _method_of(function, ours)
    elif (method := _in_place(ours)) is None:
        method = _written_over(_function_of(ours[:-1]) or getattr(Tensor, ours[:-1]), ours)
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


def _written_over(function: Any, name: str) -> Any:
    kernel = function is getattr(_C, name[:-1], None)

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if name not in _SHAPING:
            if not kernel or kwargs or not _C.replace(name, self, args):
                original = _C.original(name, self, (*args, *kwargs.values()))
                _C.assign(name, self, function(original, *args, **kwargs))
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
