"""Functions that make tensors: filled, counted, from data and from other libraries' arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

from pydl import _C
from pydl._aliases import torch_keywords
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Number = int | float | bool
Shape = Union[int, "Sequence[int]"]


_default_device: Any = None  # where that is not the CPU


def set_default_device(device: Any) -> None:
    """Where tensors are made that are given no device, for all threads: "cpu", "cuda"; None is the CPU.

    Tensors made from other tensors stay where those are.

    >>> import pydl
    >>> pydl.set_default_device("cpu")
    >>> pydl.get_default_device()
    device('cpu')
    """
    global _default_device
    _C.set_default_device(device)
    made = _C.get_default_device()
    _default_device = None if made.type == "cpu" else made


def get_default_device() -> Any:
    """Where tensors are made that are given no device."""
    return _C.get_default_device()


def shape_of(shape: tuple[Any, ...]) -> Any:
    """The shape of zeros(2, 3) or zeros((2, 3))."""
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


def finish(x: Tensor, requires_grad: bool) -> Tensor:
    """The new tensor, with a gradient on demand."""
    if requires_grad:
        x.requires_grad = True
    return x


def empty(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the given shape whose elements are not set."""
    return finish(_C.empty(shape_of(shape), _C.default_dtype() if dtype is None else dtype, device), requires_grad)


def full(
    shape: Shape, fill_value: Number, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor filled with one value; its dtype is the value's (float32, int64 or bool) unless given.

    >>> import pydl
    >>> pydl.full((2,), 0.5).tolist()
    [0.5, 0.5]
    """
    return finish(_C.full(shape, fill_value, dtype, device), requires_grad)


def zeros(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros. The shape is one sequence or several sizes."""
    return finish(_C.full(shape_of(shape), 0, _C.default_dtype() if dtype is None else dtype, device), requires_grad)


def ones(*shape: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones. The shape is one sequence or several sizes."""
    return finish(_C.full(shape_of(shape), 1, _C.default_dtype() if dtype is None else dtype, device), requires_grad)


def empty_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """An unset tensor of x's shape, dtype and device."""
    return finish(
        _C.empty(x.shape, x.dtype if dtype is None else dtype, x.device if device is None else device), requires_grad
    )


def full_like(
    x: Tensor, fill_value: Number, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A filled tensor of x's shape, dtype and device."""
    return finish(
        _C.full(x.shape, fill_value, x.dtype if dtype is None else dtype, x.device if device is None else device),
        requires_grad,
    )


def zeros_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape, dtype and device."""
    return full_like(x, 0, dtype=dtype, device=device, requires_grad=requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape, dtype and device."""
    return full_like(x, 1, dtype=dtype, device=device, requires_grad=requires_grad)


@torch_keywords
def arange(
    start: Number,
    stop: Number | None = None,
    step: Number = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... below stop; with one argument, 0 to that. int64 where all are integers, else float32."""
    if stop is None:
        start, stop = 0, start
    return finish(_C.arange(start, stop, step, dtype, device), requires_grad)


@torch_keywords
def linspace(
    start: float,
    stop: float,
    num: int,
    *,
    endpoint: bool = True,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """num evenly spaced values from start to stop, stop included unless endpoint is False."""
    return finish(
        _C.linspace(start, stop, num, endpoint, _C.default_dtype() if dtype is None else dtype, device), requires_grad
    )


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on the k-th diagonal of a (n_rows, n_cols) matrix of zeros."""
    kind = _C.default_dtype() if dtype is None else dtype
    return finish(_C.eye(n_rows, n_rows if n_cols is None else n_cols, k, kind, device), requires_grad)


def asarray(
    data: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of data: a tensor, a NumPy array or anything with the buffer protocol, numbers, nested sequences.

    Arrays are shared, not copied, unless copy is True or the dtype changes. Python floats become float32,
    integers int64.

    >>> import numpy as np, pydl
    >>> a = np.zeros(3, dtype=np.float32)
    >>> x = pydl.asarray(a)
    >>> a[0] = 1
    >>> x.tolist()
    [1.0, 0.0, 0.0]
    """
    from pydl._interop import to_tensor

    x = to_tensor(data, dtype, copy)
    if device is not None or (_default_device is not None and not isinstance(data, Tensor)):
        x = _C.to_device(x, device)
    return finish(x, requires_grad)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """As asarray, always with memory of its own."""
    return asarray(data, dtype=dtype, device=device, copy=True, requires_grad=requires_grad)


def from_dlpack(x: Any) -> Tensor:
    """Another library's array, without a copy, by the DLPack protocol."""
    return _C.from_dlpack(x.__dlpack__())


def astype(x: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
    """x with another dtype; x itself where it has that dtype already and copy is False."""
    return x.astype(dtype, copy=copy)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """Coordinates as full grids from 1-d tensors, "xy" or "ij"."""
    if len(arrays) == 1 and isinstance(arrays[0], (list, tuple)):
        arrays = tuple(arrays[0])
    arrays = tuple(_C.reshape(a, (1,)) if a.ndim == 0 else a for a in arrays)
    if indexing not in ("xy", "ij"):
        raise ValueError(f"[meshgrid] indexing must be 'xy' or 'ij', got {indexing!r}")
    n = len(arrays)
    order = list(range(n))
    if indexing == "xy" and n > 1:
        order[:2] = [1, 0]
    shape = [0] * n
    for a, i in zip(arrays, order):
        shape[i] = a.shape[0]
    out = []
    for a, i in zip(arrays, order):
        view = [1] * n
        view[i] = a.shape[0]
        out.append(_C.broadcast_to(_C.reshape(a, view), shape))
    return out
