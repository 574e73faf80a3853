"""A module called with other tensors in place of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.nn.module import Module

__all__ = ["functional_call"]


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with some parameters and buffers replaced, for this call alone.

    Gradients go to the given tensors, as meta-learning and second-order methods need it.

    Args:
        module: what to call; it is as before afterwards.
        parameters_and_buffers: dotted name -> tensor.
        args: the arguments by place, a tuple, or one alone.
        kwargs: the arguments by name.
        tie_weights: a shared tensor that is replaced under one name is replaced under all; default True.
        strict: whether all parameters and buffers must be given; default False.

    Raises:
        ValueError: a name that the module does not have or, if strict, one that is missing.

    >>> import pydl
    >>> from pydl import nn
    >>> weights = {"weight": pydl.full((1, 1), 2.0), "bias": pydl.ones((1,))}
    >>> functional_call(nn.Linear(1, 1), weights, pydl.ones((1, 1))).item()
    3.0
    """
    own = {
        f"{path}.{name}" if path else name: (owner, name)
        for path, owner in module.named_modules(remove_duplicate=False)
        for name in (*owner._parameter_names, *owner._buffer_names)
    }
    unknown = [name for name in parameters_and_buffers if name not in own]
    if unknown:
        raise ValueError(
            f"[functional_call] got the unknown names {', '.join(unknown)}, expected some of {', '.join(own)}"
        )
    missing = [name for name in own if name not in parameters_and_buffers]
    if strict and missing:
        raise ValueError(f"[functional_call] {', '.join(missing)} are not given; give them, or strict=False")
    replaced = {id(own[n][0].__dict__[own[n][1]]): tensor for n, tensor in parameters_and_buffers.items()}
    before = []
    try:
        for full, (owner, name) in own.items():
            value = owner.__dict__[name]
            new = parameters_and_buffers.get(full, replaced.get(id(value)) if tie_weights else None)
            if new is not None and value is not None:
                before.append((owner, name, value))
                owner.__dict__[name] = new
        args = args if isinstance(args, tuple) else (args,)
        return module(*args, **(kwargs or {}))
    finally:
        for owner, name, value in reversed(before):
            owner.__dict__[name] = value
