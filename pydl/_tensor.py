"""The Tensor class: the compiled TensorBase with its methods.

Operators, indexing and the attributes shape, dtype, grad ... are compiled. Methods here name the ops; PyTorch's
names for them come from the table in pydl._aliases.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from pydl import _C
from pydl._aliases import FUNCTIONS, METHODS, torch_keywords
from pydl._method_names import COMPOSITION_METHODS, FUNCTION_METHODS, IN_PLACE_METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt


class Size(int):
    """The number of elements; called as in PyTorch it is the shape, or one size of it."""

    shape: tuple[int, ...]

    def __call__(self, axis: int | None = None, *, dim: int | None = None) -> Any:
        axis = dim if axis is None else axis
        return self.shape if axis is None else self.shape[axis]


def _sizes(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


_T = TypeVar("_T", bound="Tensor")


class Tensor(_C.TensorBase):
    """A typed n-dimensional array that can record what is done to it, to find gradients.

    Made by pydl.asarray, pydl.zeros, pydl.randn and the like. ``Tensor(data)`` shares data's memory, and
    ``Tensor(2, 3)`` is an unset one of that shape, in the default dtype.

    >>> import pydl
    >>> x = pydl.asarray([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """

    __slots__ = ()  # TensorBase has room for attributes and weak references
    __array_priority__ = 1000.0  # NumPy's operators leave mixed operands to ours

    def __new__(cls: type[_T], *data: Any) -> _T:
        if data and all(isinstance(n, _INT) and not isinstance(n, _BOOL) for n in data):
            data = (_C.empty(data, _C.default_dtype()),)
        elif len(data) > 1:
            raise TypeError(f"[Tensor] got {len(data)} arguments, expected data or sizes; put the numbers in a list")
        return super().__new__(cls, *data)

    def __init__(self, *data: Any) -> None:
        pass

    # ---- what it is

    @property
    def size(self) -> Size:
        """The number of elements, an int; x.size() and x.size(0) work as in PyTorch."""
        size = Size(self._count)
        size.shape = self.shape
        return size

    def numel(self) -> int:
        """The number of elements."""
        return self._count

    nelement = numel

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def stride(self, axis: int | None = None) -> Any:
        """Steps between neighbours in elements, along one axis or all."""
        return self.strides if axis is None else self.strides[axis]

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._count * self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating one."""
        return self.dtype.is_floating_point

    @property
    def T(self) -> Tensor:
        """The transposed matrix, a view; as in PyTorch, all axes reversed."""
        return _C.permute_dims(self, tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """A view with the last two axes exchanged."""
        return _C.swap_axes(self, -1, -2)

    def t(self) -> Tensor:
        """The transposed matrix (at most 2 axes)."""
        if self.ndim > 2:
            raise ValueError(f"[t] needs at most 2 axes, got shape {self.shape}; use permute_dims")
        return self.T

    @property
    def mH(self) -> Tensor:
        """As mT: there are no complex numbers."""
        return self.mT

    H = mH

    @property
    def real(self) -> Tensor:
        """Itself: there are no complex numbers."""
        return self

    @property
    def is_sparse(self) -> Any:
        """False: there are no sparse tensors."""
        return False

    def element_size(self) -> Any:
        """Bytes per element."""
        return self.dtype.itemsize

    def ndimension(self) -> Any:
        """The number of axes."""
        return self.ndim

    @property
    def data(self) -> Tensor:
        """The same memory without the history; assigned to, this tensor takes over another's memory and shape."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        _C.set_data(self, value)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        import pydl

        if api_version is not None and api_version not in ("2021.12", "2022.12", "2023.12", "2024.12"):
            raise ValueError(f"[__array_namespace__] version {api_version!r} of the array API is not known")
        return pydl

    def __repr__(self) -> str:
        from pydl._interop import represent

        return represent(self)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self._count == 1 else str(self)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("[iter] a zero-dimensional tensor can't be iterated over")
        return (_C.select(self, 0, i) for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool(_C.any(self == value))

    # ---- to and from others

    def numpy(self) -> npt.NDArray[Any]:
        """A NumPy array that shares the memory. Tensors with a history must be detached first."""
        from pydl._interop import to_numpy

        return to_numpy(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"[__array__] a conversion to {dtype} needs a copy, which copy=False forbids")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **kwargs: Any) -> Any:
        return _C.to_dlpack(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0) if self.is_cpu else (2, self.device.index)

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self.item() if self.ndim == 0 else self.detach().cpu().numpy().tolist()

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            if not self.is_leaf:
                raise _C.AutogradError("[deepcopy] only leaves can be copied with their flags; use clone() or detach()")
            copy = self.detach().clone()
            copy.requires_grad = self.requires_grad
            memo[id(self)] = copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from pydl._interop import rebuild

        return rebuild, (self.detach().cpu().numpy_bytes(), self.shape, self.dtype, self.requires_grad)

    def numpy_bytes(self) -> bytes:
        """The elements' bytes in row-major order."""
        from pydl._interop import raw_bytes

        return raw_bytes(self)

    def astype(self, dtype: Any, copy: bool = True) -> Tensor:
        """With another dtype; differentiable between floating ones."""
        y = _C.astype(self, dtype)
        return _C.clone(self) if copy and y is self else y

    def to(self, *args: Any, dtype: Any = None, device: Any = None, copy: bool = False, **_: Any) -> Tensor:
        """With another dtype or device: x.to(pydl.float64), x.to("cuda"), x.to(other). Itself where it is so already.

        Differentiable. Between devices it copies; from the CPU to a CUDA device without waiting, back it waits.
        """
        for arg in args:
            if isinstance(arg, Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, (str, _C.Device)) and not (isinstance(arg, str) and arg in _DTYPE_NAMES):
                device = arg
            elif not isinstance(arg, bool):
                dtype = arg
        x = self if device is None else _C.to_device(self, device)
        if dtype is not None:
            x = _C.astype(x, dtype)
        return _C.clone(x) if copy and x is self else x

    def cpu(self) -> Tensor:
        """On the CPU: itself, or a copy that is there when this returns."""
        return self if self.is_cpu else _C.to_device(self, "cpu")

    def cuda(self, device: Any = None) -> Tensor:
        """On a CUDA device, the first one unless told otherwise; NotImplementedError where there is none."""
        return _C.to_device(self, "cuda" if device is None else device)

    def float(self, memory_format: Any = None) -> Tensor:
        """As float32."""
        return _C.astype(self, _C.float32)

    def double(self, memory_format: Any = None) -> Tensor:
        """As float64."""
        return _C.astype(self, _C.float64)

    def half(self, memory_format: Any = None) -> Tensor:
        """As float16."""
        return _C.astype(self, _C.float16)

    def bfloat16(self, memory_format: Any = None) -> Tensor:
        """As bfloat16."""
        return _C.astype(self, _C.bfloat16)

    def long(self, memory_format: Any = None) -> Tensor:
        """As int64."""
        return _C.astype(self, _C.int64)

    def int(self, memory_format: Any = None) -> Tensor:
        """As int32."""
        return _C.astype(self, _C.int32)

    def short(self, memory_format: Any = None) -> Tensor:
        """As int16."""
        return _C.astype(self, _C.int16)

    def char(self, memory_format: Any = None) -> Tensor:
        """As int8."""
        return _C.astype(self, _C.int8)

    def byte(self, memory_format: Any = None) -> Tensor:
        """As uint8."""
        return _C.astype(self, _C.uint8)

    def bool(self, memory_format: Any = None) -> Tensor:
        """As bool: whether not zero."""
        return _C.astype(self, _C.bool_)

    def clone(self, memory_format: Any = None) -> Tensor:
        """A copy; differentiable."""
        return _C.clone(self)

    def contiguous(self, memory_format: Any = None) -> Tensor:
        """Itself where the elements lie in row-major order, else a copy."""
        return _C.contiguous(self)

    # ---- gradients

    def requires_grad_(self, requires_grad: Any = True) -> Tensor:
        """Set requires_grad, and return self."""
        self.requires_grad = requires_grad
        return self

    def detach_(self) -> Tensor:
        """Forget the history, in place."""
        _C.forget(self)
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call hook(grad) when this tensor's gradient is known; what it returns (unless None) replaces the gradient."""
        return RemovableHandle(self, _C.add_hook(self, hook))

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is no leaf in its grad."""
        _C.retain_grad(self)

    # ---- in place

    def copy_(self, src: Tensor) -> Tensor:
        """Take over src's values, broadcast and converted."""
        _C.copy_(self, src)
        return self

    def fill_(self, value: Any) -> Tensor:
        """Set every element."""
        _C.fill_(self, value)
        return self

    def zero_(self) -> Tensor:
        """Set every element to 0."""
        _C.fill_(self, 0)
        return self

    def add(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """The sum with other, times alpha."""
        y = None if alpha == 1 else one_pass(_C.addcmul, self, other, alpha)
        return _C.add(self, other if alpha == 1 else other * alpha) if y is None else y

    def add_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Add other, times alpha."""
        if alpha == 1 or one_pass(_C.addcmul, self, other, alpha, in_place=True) is None:
            self += other if alpha == 1 else other * alpha
        return self

    def subtract(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """The difference to other, times alpha."""
        y = None if alpha == 1 else one_pass(_C.addcmul, self, other, -alpha)
        return _C.subtract(self, other if alpha == 1 else other * alpha) if y is None else y

    def subtract_(self, other: Any, *, alpha: Any = 1) -> Tensor:
        """Subtract other, times alpha."""
        if alpha == 1 or one_pass(_C.addcmul, self, other, -alpha, in_place=True) is None:
            self -= other if alpha == 1 else other * alpha
        return self

    def masked_fill_(self, mask: Tensor, value: Any) -> Tensor:
        """Set elements where the mask is true."""
        _C.assign("masked_fill_", self, _functions().masked_fill(self, mask, value))
        return self

    def uniform_(self, low: Any = 0.0, high: Any = 1.0, *, generator: Any = None) -> Tensor:
        """Fill with uniform numbers of [low, high)."""
        _C.copy_(self, _C.uniform(self.shape, low, high, self.dtype, generator))
        return self

    def normal_(self, mean: Any = 0.0, std: Any = 1.0, *, generator: Any = None) -> Tensor:
        """Fill with normal numbers."""
        _C.copy_(self, _C.normal(self.shape, mean, std, self.dtype, generator))
        return self

    def bernoulli_(self, p: Any = 0.5, *, generator: Any = None) -> Tensor:
        """Fill with 1 with probability p, else 0."""
        kind = self.dtype if self.is_floating_point() else _C.float32
        _C.copy_(self, _C.bernoulli(_C.full(self.shape, p, kind), generator))
        return self

    def fill_diagonal_(self, value: Any) -> Tensor:
        """Set the main diagonal."""
        _C.fill_(_C.diagonal(self, 0, 0, 1), value)
        return self

    # ---- shape

    def reshape(self, *shape: Any) -> Tensor:
        """With another shape, -1 for one unknown size; a view where possible."""
        return _C.reshape(self, _sizes(shape))

    def view(self, *shape: Any) -> Tensor:
        """A view of another shape, or ValueError."""
        return _C.view(self, _sizes(shape))

    def view_as(self, other: Tensor) -> Tensor:
        """A view of other's shape."""
        return _C.view(self, other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """With other's shape."""
        return _C.reshape(self, other.shape)

    def permute_dims(self, *axes: Any) -> Tensor:
        """A view with the axes in another order."""
        return _C.permute_dims(self, _sizes(axes))

    def broadcast_to(self, *shape: Any) -> Tensor:
        """A view repeated to a shape; -1 keeps a size."""
        return _C.broadcast_to(self, _sizes(shape))

    def expand_as(self, other: Tensor) -> Tensor:
        """A view repeated to other's shape."""
        return _C.broadcast_to(self, other.shape)

    def flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> Tensor:
        """With the axes from start_dim to end_dim made one."""
        shape = self.shape
        ndim = len(shape)
        if ndim == 0:
            return _C.reshape(self, (1,))
        if not (-ndim <= start_dim < ndim and -ndim <= end_dim < ndim):
            raise IndexError(f"[flatten] got shape {shape}, which has no axes {start_dim} to {end_dim}")
        first, last = start_dim % ndim, end_dim % ndim
        if first > last:
            raise ValueError(f"[flatten] axis {start_dim} lies behind {end_dim} in shape {shape}")
        return _C.reshape(self, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))

    def ravel(self) -> Tensor:
        """Flattened."""
        return _C.reshape(self, (-1,) if self._count else (0,))

    def unflatten(self, axis: Any, sizes: Sequence[Any]) -> Tensor:
        """With one axis split into several, of which one may be -1."""
        if not -self.ndim <= axis < self.ndim:
            raise IndexError(f"[unflatten] got shape {self.shape}, which has no axis {axis}")
        axis %= self.ndim
        known, unknown = 1, 0
        for n in sizes:
            known, unknown = (known, unknown + 1) if n == -1 else (known * n, unknown)
        size = self.shape[axis]
        if unknown > 1 or (size != known and not (unknown and known and size % known == 0)):
            raise ValueError(f"[unflatten] cannot split axis {axis} of size {size} into {tuple(sizes)}")
        sizes = [size // known if n == -1 else n for n in sizes]
        return _C.reshape(self, (*self.shape[:axis], *sizes, *self.shape[axis + 1 :]))

    def repeat(self, *repetitions: Any) -> Tensor:
        """Repeated as a whole along each axis (PyTorch's repeat, NumPy's tile)."""
        return _C.tile(self, _sizes(repetitions))

    def unfold(self, axis: Any, size: Any, step: Any) -> Tensor:
        """A view of windows of a size along an axis, as a new last axis."""
        if self.ndim == 0:
            return _C.unfold(_C.reshape(self, (1,)), 0, size, step).reshape(size)
        return _C.unfold(self, axis, size, step)

    @torch_keywords
    def max(self, axis: Any = None, keepdims: Any = False) -> Any:
        """The largest element over axes; along one axis, as in PyTorch, the pair of values and indices."""
        if isinstance(axis, _INT):
            return _functions().max_with_index(self, axis, keepdims)
        return _C.max(self, axis, keepdims)

    @torch_keywords
    def min(self, axis: Any = None, keepdims: Any = False) -> Any:
        """The smallest element over axes; along one axis, as in PyTorch, the pair of values and indices."""
        if isinstance(axis, _INT):
            return _functions().min_with_index(self, axis, keepdims)
        return _C.min(self, axis, keepdims)

    @torch_keywords
    def sort(self, axis: Any = -1, descending: Any = False, stable: Any = True) -> Any:
        """Sorted along an axis: as in PyTorch, the pair of values and indices."""
        return _functions().Extremes(*_C.sort(self, axis, descending))

    @torch_keywords
    def squeeze(self, axis: Any = None) -> Tensor:
        """A view without axes of size 1: all, or those named; as in PyTorch, others among them stay."""
        return _C.squeeze(self, axis, axis is None)

    def type(self, dtype: Any = None) -> Any:
        """With another dtype, or one of PyTorch's old types such as LongTensor; without one, this one's old name."""
        from pydl import _typed

        if dtype is None:
            kinds = [getattr(_typed, name) for name in _typed.__all__]
            return next((f"pydl.{kind.__name__}" for kind in kinds if kind.dtype == self.dtype), self.dtype.name)
        if isinstance(dtype, str) and dtype.endswith("Tensor"):
            dtype = getattr(_typed, dtype.rpartition(".")[2], dtype)
        return self.astype(getattr(dtype, "dtype", dtype), copy=False)

    def type_as(self, other: Tensor) -> Tensor:
        """With other's dtype."""
        return _C.astype(self, other.dtype)

    def new_zeros(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """Zeros of this tensor's dtype."""
        return _C.full(
            _sizes(shape), 0, self.dtype if dtype is None else dtype, self.device if device is None else device
        )

    def new_ones(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """Ones of this tensor's dtype."""
        return _C.full(
            _sizes(shape), 1, self.dtype if dtype is None else dtype, self.device if device is None else device
        )

    def new_empty(self, *shape: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """An unset tensor of this one's dtype."""
        return _C.empty(
            _sizes(shape), self.dtype if dtype is None else dtype, self.device if device is None else device
        )

    def new_full(self, shape: Any, value: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """Filled, of this tensor's dtype."""
        return _C.full(shape, value, self.dtype if dtype is None else dtype, self.device if device is None else device)

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        """A tensor of data with this one's dtype, on its device."""
        device = self.device if device is None else device
        return _functions().tensor(data, dtype=self.dtype if dtype is None else dtype, device=device)

    if TYPE_CHECKING:  # the deferred ones below; a real __getattr__ would slow down every other attribute

        def __getattr__(self, name: str) -> Any: ...


def one_pass(kernel: Any, x: Any, a: Any, b: Any, p: Any = 1.0, in_place: bool = False) -> Tensor | None:
    """What the kernel makes of them; None where one pass can't: a gradient is recorded, or types differ."""
    numbers = (int, float)
    if isinstance(x, Tensor) and isinstance(a, Tensor) and isinstance(b, (Tensor, *numbers)) and isinstance(p, numbers):
        result: Tensor | None = kernel(x, a, b, p, in_place)
        return result
    return None


class _Deferred:
    """Stands for a method until it is first asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Tensor | None, cls: type[Tensor]) -> Any:
        from pydl._methods import find_method

        method = find_method(self.name)
        return method if tensor is None else method.__get__(tensor)


def _defer_methods() -> None:
    known = set(dir(Tensor))
    ours = FUNCTION_METHODS | COMPOSITION_METHODS | IN_PLACE_METHODS | {"var", "std"}
    aliases = (theirs for theirs, name in (FUNCTIONS | METHODS).items() if name in known or name in ours)
    for name in {*ours, *aliases} - known:
        setattr(Tensor, name, _Deferred(name))


_defer_methods()
_INT, _BOOL = int, bool
_DTYPE_NAMES = {d.name for d in vars(_C).values() if isinstance(d, _C.DType)}


def _functions() -> Any:
    from pydl import _functions

    return _functions


class RemovableHandle:
    """What register_hook returns: remove() takes the hook away."""

    def __init__(self, tensor: Tensor, number: int) -> None:
        self._tensor: Tensor | None = tensor
        self._number = number

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        if self._tensor is not None:
            _C.remove_hook(self._tensor, self._number)
            self._tensor = None

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


_C._set_tensor_class(Tensor)
