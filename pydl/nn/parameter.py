"""Parameter and Buffer: the tensors that a module keeps, with what it does with them."""

from __future__ import annotations

from typing import Any

from pydl._tensor import Tensor

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor that a module trains: assigned to a module's attribute, it shows up in ``parameters()``.

    Args:
        data: the values, shared and not copied; default an empty float32 tensor.
        requires_grad: whether gradients are computed; default True.

    >>> import pydl
    >>> from pydl import nn
    >>> nn.Parameter(pydl.zeros((2, 3))).requires_grad
    True
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        self = super().__new__(cls, data)
        if requires_grad and not self.dtype.is_floating_point:
            hint = "convert with astype(pydl.float32), or give requires_grad=False"
            raise TypeError(f"[Parameter] got {self.dtype}, expected a floating dtype to train; {hint}")
        self.requires_grad = requires_grad
        return self

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        pass  # __new__ has done it

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.detach(), self.requires_grad)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not trained: assigned to an attribute, it is registered.

    Args:
        data: the values, shared and not copied; default an empty float32 tensor.
        persistent: whether ``state_dict`` keeps it; default True.

    >>> import pydl
    >>> from pydl import nn
    >>> module = nn.Module()
    >>> module.mean = nn.Buffer(pydl.zeros((2,)))
    >>> list(module.state_dict())
    ['mean']
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        self = super().__new__(cls, data)
        self.persistent = persistent
        return self

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        pass  # __new__ has done it

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.detach().clone(), persistent=self.persistent)
        return memo[id(self)]
