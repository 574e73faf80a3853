"""Other dtypes and devices for all tensors of a module tree, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl._tensor import Tensor
from pydl.nn.state import is_lazy

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl.nn.module import Module

__all__ = ["convert_tensors", "device_and_dtype"]


def convert_tensors(root: Module, device: Any, dtype: Any) -> None:
    """Move all tensors to a device and convert the floating ones to a dtype; parameters stay the same objects."""

    def convert(tensor: Tensor) -> Tensor:
        if dtype is not None and tensor.dtype.is_floating_point:
            return tensor.to(dtype) if device is None else tensor.to(device, dtype)
        return tensor if device is None else tensor.to(device)

    _convert(root, convert)


def _convert(root: Module, convert: Callable[[Tensor], Tensor]) -> None:
    done: dict[int, Any] = {}
    for module in root.modules():
        state = module.__dict__
        for name in module._parameter_names:
            parameter = state[name]
            if parameter is not None and id(parameter) not in done:
                done[id(parameter)] = parameter
                grad = parameter.grad
                parameter.grad = None
                parameter.data = convert(parameter.detach())
                if grad is not None:
                    parameter.grad = convert(grad)
        for name in module._buffer_names:
            buffer = state[name]
            if buffer is not None:
                if id(buffer) not in done:
                    done[id(buffer)] = buffer if is_lazy(buffer) else convert(buffer)
                    if is_lazy(buffer):
                        buffer.data = convert(buffer.detach())
                state[name] = done[id(buffer)]


def device_and_dtype(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """What ``Module.to`` was given, by place or by name."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    if kwargs or len(args) > 2:
        raise TypeError(f"[to] got {args} {kwargs}, expected a device, a dtype or both")
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, type(pydl.float32)):
            dtype = arg
        elif arg is not None:
            device = arg
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"[to] modules convert to floating dtypes only, got {dtype}")
    return None if device is None else pydl.device(device), dtype
