"""PyTorch's old names for tensors of one dtype, such as LongTensor: they make them, and isinstance tells them apart."""

from __future__ import annotations

from typing import Any

from pydl import _C
from pydl._creation import asarray
from pydl._tensor import Tensor

__all__ = [
    "BFloat16Tensor",
    "BoolTensor",
    "ByteTensor",
    "CharTensor",
    "DoubleTensor",
    "FloatTensor",
    "HalfTensor",
    "IntTensor",
    "LongTensor",
    "ShortTensor",
]


class _Typed(type):
    """Calling such a class makes a plain Tensor of its dtype."""

    dtype: Any

    def __call__(cls, *args: Any) -> Any:
        if all(isinstance(n, int) and not isinstance(n, bool) for n in args):
            return _C.empty(args or (0,), cls.dtype)
        if len(args) != 1:
            raise TypeError(f"[{cls.__name__}] got {len(args)} arguments, expected sizes, or numbers in one sequence")
        return asarray(args[0], dtype=cls.dtype, copy=True)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and bool(instance.dtype == cls.dtype)


class FloatTensor(metaclass=_Typed):
    """``FloatTensor(2, 3)``, unset, or ``FloatTensor([1, 2])``: float32. So are the others, of their dtypes.

    >>> import pydl
    >>> pydl.LongTensor([1, 2]).dtype == pydl.int64, isinstance(pydl.zeros(2), pydl.FloatTensor)
    (True, True)
    """

    dtype = _C.float32


class DoubleTensor(metaclass=_Typed):
    """float64; see FloatTensor."""

    dtype = _C.float64


class HalfTensor(metaclass=_Typed):
    """float16; see FloatTensor."""

    dtype = _C.float16


class BFloat16Tensor(metaclass=_Typed):
    """bfloat16; see FloatTensor."""

    dtype = _C.bfloat16


class LongTensor(metaclass=_Typed):
    """int64; see FloatTensor."""

    dtype = _C.int64


class IntTensor(metaclass=_Typed):
    """int32; see FloatTensor."""

    dtype = _C.int32


class ShortTensor(metaclass=_Typed):
    """int16; see FloatTensor."""

    dtype = _C.int16


class CharTensor(metaclass=_Typed):
    """int8; see FloatTensor."""

    dtype = _C.int8


class ByteTensor(metaclass=_Typed):
    """uint8; see FloatTensor."""

    dtype = _C.uint8


class BoolTensor(metaclass=_Typed):
    """bool; see FloatTensor."""

    dtype = _C.bool_
