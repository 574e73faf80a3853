"""What dtypes can hold, as the array API standard asks for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydl import _C


class FloatInfo(NamedTuple):
    """The limits of a floating dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: _C.DType

    @property
    def tiny(self) -> float:
        """The smallest normal number, by NumPy's name."""
        return self.smallest_normal


class IntegerInfo(NamedTuple):
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: _C.DType


_MANTISSA = {"float16": (10, 15), "bfloat16": (7, 127), "float32": (23, 127), "float64": (52, 1023)}


def _dtype_of(type_: Any) -> _C.DType:
    return _C._dtype(getattr(type_, "dtype", type_))


def float_info(type_: Any) -> FloatInfo:
    """See pydl.finfo."""
    dtype = _dtype_of(type_)
    if dtype.name not in _MANTISSA:
        raise TypeError(f"[finfo] {dtype!r} is no floating dtype")
    bits, exponent = _MANTISSA[dtype.name]
    top = (2.0 - 2.0**-bits) * 2.0**exponent
    return FloatInfo(dtype.itemsize * 8, 2.0**-bits, top, -top, 2.0 ** (1 - exponent), dtype)


def integer_info(type_: Any) -> IntegerInfo:
    """See pydl.iinfo."""
    dtype = _dtype_of(type_)
    if "int" not in dtype.name:
        raise TypeError(f"[iinfo] {dtype!r} is no integer dtype")
    bits = dtype.itemsize * 8
    if dtype.name.startswith("u"):
        return IntegerInfo(bits, 2**bits - 1, 0, dtype)
    return IntegerInfo(bits, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), dtype)


def is_kind(dtype: Any, kind: Any) -> bool:
    """See pydl.isdtype."""
    if isinstance(kind, tuple):
        return any(is_kind(dtype, k) for k in kind)
    if not isinstance(kind, str):
        return bool(_C._dtype(dtype) == kind)
    name = _C._dtype(dtype).name
    kinds = {
        "bool": name == "bool",
        "signed integer": name.startswith("int"),
        "unsigned integer": name.startswith("uint"),
        "integral": "int" in name,
        "real floating": "float" in name,
        "complex floating": False,
        "numeric": name != "bool",
    }
    if kind not in kinds:
        raise ValueError(f"[isdtype] unknown kind {kind!r}, expected one of {sorted(kinds)}")
    return kinds[kind]
