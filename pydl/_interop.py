"""Between tensors and NumPy arrays, buffers, sequences and text. Imported when first needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from pydl import _C
from pydl._tensor import Tensor

# dtypes that NumPy lacks go as the unsigned integers of their width.
_CARRIERS = {"bfloat16": "uint16"}


def _numpy_dtype(dtype: _C.DType) -> np.dtype[Any]:
    if dtype.name in _CARRIERS:
        raise TypeError(f"[numpy] NumPy has no {dtype.name}; convert first, for example with .float()")
    return np.dtype(dtype.name)


def to_numpy(x: Tensor) -> np.ndarray[Any, Any]:
    """A view of x's memory; see Tensor.numpy."""
    if x.requires_grad:
        raise _C.AutogradError("[numpy] the tensor requires a gradient; use x.detach().numpy()")
    if not x.is_cpu:
        raise TypeError(f"[numpy] the tensor is on {x.device}, which NumPy can't read; use x.cpu().numpy()")
    if x.numel() == 0:
        return np.empty(x.shape, _numpy_dtype(x.dtype))
    try:
        return np.asarray(memoryview(x))
    except (BufferError, TypeError):
        _numpy_dtype(x.dtype)  # raises where NumPy has no such dtype
        raise


# NumPy's dtypes as ours: looking one up costs a hundredth of finding it by name.
_DTYPES = {np.dtype(d.name): d for d in vars(_C).values() if isinstance(d, _C.DType) and d.name not in _CARRIERS}


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that shares an array's memory, or a copy where the layout or byte order can't be shared."""
    dtype = _DTYPES.get(array.dtype)
    if dtype is not None:
        flags = array.flags
        if flags.c_contiguous and flags.aligned:
            if flags.writeable and array.dtype.kind != "b":
                return _C.from_dlpack(array.__dlpack__())  # the quickest way to the address
            address = array.__array_interface__["data"][0]
            return _C.from_address(address, array.shape, array.strides, dtype, flags.writeable, array)
    if array.dtype.kind not in "biuf":
        kind = "strings" if array.dtype.kind in "US" else str(array.dtype)
        raise TypeError(f"[asarray] can't make a tensor of {kind}; expected numbers or booleans")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    item = array.dtype.itemsize
    if any(s % item for s in array.strides) or array.ctypes.data % item:
        array = array.copy()
    if array.dtype.name in ("longdouble", "float128"):
        array = array.astype(np.float64)
    address = array.__array_interface__["data"][0]
    return _C.from_address(address, array.shape, array.strides, array.dtype, bool(array.flags.writeable), array)


def to_tensor(data: Any, dtype: Any, copy: bool | None) -> Tensor:
    """See pydl.asarray."""
    if copy is False:
        shared = to_tensor(data, None, None)
        same = dtype is None or shared.dtype == dtype
        if not same or isinstance(data, (bool, int, float, list, tuple, range)):
            raise ValueError("[asarray] this data can't be shared, which copy=False asks for; leave copy out")
        return shared
    if isinstance(data, Tensor):
        x = data if dtype is None else data.astype(dtype, copy=False)
        return x.detach().clone() if copy and x is data else x
    if isinstance(data, (bool, int, float)) and not isinstance(data, np.generic):  # np.float64 is a float as well
        return _C.full((), data, dtype)
    if isinstance(data, np.ndarray):
        x = from_numpy(data.copy() if copy else data)
    elif isinstance(data, np.generic):
        x = from_numpy(np.asarray(data))
    elif hasattr(data, "__array_interface__") or hasattr(data, "__array__"):
        x = from_numpy(np.array(data) if copy else np.asarray(data))
    elif hasattr(data, "__dlpack__"):
        x = _C.from_dlpack(data.__dlpack__())
        x = x.clone() if copy else x
    elif isinstance(data, (list, tuple, range)):
        return _from_sequence(data, dtype)
    elif isinstance(data, (str, bytes)):
        raise TypeError(f"[asarray] can't make a tensor of {type(data).__name__}; expected numbers or booleans")
    else:
        try:
            buffer = memoryview(data)
        except TypeError:
            raise TypeError(f"[asarray] can't make a tensor of {type(data).__name__}") from None
        x = from_numpy(np.array(buffer) if copy else np.asarray(buffer))
    return x if dtype is None else x.astype(dtype, copy=False)


def _from_sequence(data: Any, dtype: Any) -> Tensor:
    if any(isinstance(item, Tensor) and item.ndim > 0 for item in data):
        return _C.stack([to_tensor(item, dtype, None) for item in data], 0)
    data = _plain(data)
    try:
        array = np.array(data)
    except ValueError:
        raise ValueError("[asarray] nested sequences must have the same lengths") from None
    if array.dtype.kind == "O":
        raise TypeError("[asarray] the sequence holds something that is no number, or its lengths differ")
    if array.size == 0 and dtype is None:
        return from_numpy(array.astype(np.float32))
    x = from_numpy(array)
    if dtype is not None:
        return x.astype(dtype, copy=False)
    return _C.astype(x, _C.default_dtype()) if array.dtype == np.float64 and not _has_numpy(data) else x


def _plain(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.item() if data.ndim == 0 else data.detach().cpu().numpy()
    if isinstance(data, (list, tuple)) and any(isinstance(item, (Tensor, list, tuple)) for item in data):
        return [_plain(item) for item in data]
    return data


def _has_numpy(data: Any) -> bool:
    """Whether float64 in a nested sequence comes from NumPy, whose dtype is then meant."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def raw_bytes(x: Tensor) -> bytes:
    """The elements' bytes in row-major order."""
    x = x.detach().cpu().contiguous()
    if x.numel() == 0:
        return b""
    return _C.memory(x)


def rebuild(data: bytes, shape: tuple[int, ...], dtype: _C.DType, requires_grad: bool) -> Tensor:
    """The tensor that raw_bytes came from."""
    x = _C.empty(shape, dtype)
    _C.set_memory(x, data)
    x.requires_grad = requires_grad
    return x


def represent(x: Tensor) -> str:
    """tensor([...]) with what is not the default said after the elements."""
    values = x.detach().cpu()
    if x.dtype.name in ("bfloat16", "float16"):
        values = values.float()
    with np.printoptions(precision=4, threshold=1000, edgeitems=3, linewidth=100):
        body = np.array2string(values.numpy(), separator=", ", prefix="tensor(")
    if x.numel() == 0:
        body = f"[], shape={x.shape}"
    extras = ""
    if x.dtype not in (_C.float32, _C.int64, _C.bool_):
        extras += f", dtype={x.dtype!r}"
    if not x.is_cpu:
        extras += f", device='{x.device}'"
    if x.grad_fn is not None:
        extras += f", grad_fn=<{x.grad_fn}>"
    elif x.requires_grad:
        extras += ", requires_grad=True"
    return f"tensor({body}{extras})"
