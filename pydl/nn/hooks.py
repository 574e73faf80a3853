"""Functions that run around a module's forward and backward pass. A module without hooks pays one attribute test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl.nn.module import Module

__all__ = ["HookHandle", "Hookable", "Hooks", "call_with_hooks", "hooks_of"]


class HookHandle:
    """What a register method returns: ``remove()`` takes the hook off again; in a ``with`` block leaving does it.

    >>> import pydl
    >>> from pydl import nn
    >>> layer = nn.Linear(2, 3)
    >>> with layer.register_forward_hook(lambda module, args, output: print(output.shape)):
    ...     _ = layer(pydl.ones((4, 2)))
    (4, 3)
    """

    __slots__ = ("_kind", "_module")

    def __init__(self, module: Module, kind: str, hook: Any, prepend: bool) -> None:
        if not callable(hook[0] if isinstance(hook, tuple) else hook):
            got = type(hook[0] if isinstance(hook, tuple) else hook).__name__
            raise TypeError(f"[{type(module).__name__}] got a {got} as {kind} hook, expected a function")
        self._module, self._kind = module, kind
        if module._hooks is None:
            module.__dict__["_hooks"] = Hooks()
        hooks = getattr(module._hooks, kind)
        before = dict(hooks)
        if prepend:
            hooks.clear()
        hooks[self] = hook
        if prepend:
            hooks.update(before)

    def remove(self) -> None:
        """Take the hook off; doing it twice is no error. A module without hooks is as fast as it was before."""
        hooks = self._module._hooks
        if hooks is not None:
            getattr(hooks, self._kind).pop(self, None)
            if not any(getattr(hooks, kind) for kind in Hooks.__slots__):
                del self._module.__dict__["_hooks"]

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Hookable:
    """A module's methods that register hooks."""

    def _add_hook(self: Any, kind: str, hook: Any, prepend: bool) -> HookHandle:
        return HookHandle(self, kind, hook, prepend)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Run ``hook(module, args)`` before ``forward``; what it returns, unless None, replaces the arguments.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)`` and returns both.
        """
        return self._add_hook("forward_pre", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Run ``hook(module, args, output)`` after ``forward``; what it returns, unless None, replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``.
        """
        return self._add_hook("forward", (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Run ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are known.

        Both are tuples, one entry for each positional input and each output, None where no gradient flows. What the
        hook returns, unless None, replaces ``grad_input``.
        """
        return self._add_hook("backward", hook, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Run ``hook(module, grad_output)`` before the module's backward; its result, unless None, replaces it."""
        return self._add_hook("backward_pre", hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Run ``hook(module, prefix, keep_vars)`` before :meth:`state_dict` reads this module, here or from above."""
        return self._add_hook("state_dict_pre", hook, False)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Run ``hook(module, state_dict, prefix, local_metadata)`` when this module and those below it are in the
        state; it changes the state in place and returns nothing. The metadata are an empty dict.
        """
        return self._add_hook("state_dict", hook, False)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Run ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)``
        before :meth:`load_state_dict` compares names, as to rename those of an older model.

        It may change ``state_dict``, a copy, and add to the three lists; modules are asked from the top downwards.
        """
        return self._add_hook("load_state_dict_pre", hook, False)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Run ``hook(module, incompatible_keys)`` after the values were copied; it may take names out of the lists
        ``missing_keys`` and ``unexpected_keys``, which are an error afterwards if strict, and returns nothing.
        """
        return self._add_hook("load_state_dict", hook, False)


class Hooks:
    """A module's hooks: handle -> (function, with_kwargs) for the forward ones, handle -> function for the others."""

    __slots__ = (
        "backward",
        "backward_pre",
        "forward",
        "forward_pre",
        "load_state_dict",
        "load_state_dict_pre",
        "state_dict",
        "state_dict_pre",
    )

    def __init__(self) -> None:
        self.forward_pre: dict[HookHandle, tuple[Callable[..., Any], bool]] = {}
        self.forward: dict[HookHandle, tuple[Callable[..., Any], bool]] = {}
        self.backward_pre: dict[HookHandle, Callable[..., Any]] = {}
        self.backward: dict[HookHandle, Callable[..., Any]] = {}
        self.state_dict_pre: dict[HookHandle, Callable[..., Any]] = {}
        self.state_dict: dict[HookHandle, Callable[..., Any]] = {}
        self.load_state_dict_pre: dict[HookHandle, Callable[..., Any]] = {}
        self.load_state_dict: dict[HookHandle, Callable[..., Any]] = {}


def hooks_of(module: Module, kind: str) -> tuple[Callable[..., Any], ...]:
    """A module's hooks of a kind that is no forward one, in the order in which they run."""
    return () if module._hooks is None else tuple(getattr(module._hooks, kind).values())


def call_with_hooks(module: Module, hooks: Hooks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward(*args, **kwargs)`` with all hooks around it, in the order of their registration."""
    for function, with_kwargs in tuple(hooks.forward_pre.values()):
        if with_kwargs:
            changed = function(module, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        else:
            changed = function(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    gates = _Gates(module, hooks) if hooks.backward or hooks.backward_pre else None
    if gates is not None:
        args = gates.wrap_inputs(args)
    output = module.forward(*args, **kwargs)
    for function, with_kwargs in tuple(hooks.forward.values()):
        changed = function(module, args, kwargs, output) if with_kwargs else function(module, args, output)
        if changed is not None:
            output = changed
    return output if gates is None else gates.wrap_outputs(output)


class _Gates:
    """Identity functions on the inputs and outputs of one call; their backward sees the module's gradients."""

    def __init__(self, module: Module, hooks: Hooks) -> None:
        self.module, self.hooks = module, hooks
        self.num_inputs = 0
        self.input_places: list[int] = []
        self.output_places: list[int] = []
        self.num_outputs = 0
        self.grad_output: tuple[Any, ...] = ()

    def wrap_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.num_inputs = len(args)
        args, self.input_places = _wrap(args, self.at_inputs)
        return args

    def wrap_outputs(self, output: Any) -> Any:
        if not isinstance(output, (tuple, list)):
            self.num_outputs = 1
            wrapped, self.output_places = _wrap((output,), self.at_outputs)
            return wrapped[0]
        self.num_outputs = len(output)
        wrapped, self.output_places = _wrap(tuple(output), self.at_outputs)
        if hasattr(output, "_fields"):
            return type(output)(*wrapped)
        return type(output)(wrapped)

    def at_outputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_output = _spread(grads, self.output_places, self.num_outputs)
        for function in tuple(self.hooks.backward_pre.values()):
            changed = function(self.module, self.grad_output)
            if changed is not None:
                self.grad_output = changed if isinstance(changed, tuple) else (changed,)
        if not self.input_places:  # nothing before this module needs a gradient, so the other gate never opens
            self._run_backward((None,) * self.num_inputs)
        return tuple(self.grad_output[place] for place in self.output_places)

    def at_inputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        grad_input = self._run_backward(_spread(grads, self.input_places, self.num_inputs))
        return tuple(grad_input[place] for place in self.input_places)

    def _run_backward(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for function in tuple(self.hooks.backward.values()):
            changed = function(self.module, grad_input, self.grad_output)
            if changed is not None:
                grad_input = changed if isinstance(changed, tuple) else (changed,)
        return grad_input


def _wrap(values: tuple[Any, ...], at_backward: Callable[..., Any]) -> tuple[tuple[Any, ...], list[int]]:
    """Pass the tensors that carry gradient through one identity; also return their places."""
    places = []
    if pydl.is_grad_enabled():
        places = [i for i, value in enumerate(values) if isinstance(value, pydl.Tensor) and value.requires_grad]
    if not places:
        return values, places

    class Gate(pydl.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            return tuple(tensor.detach() for tensor in tensors)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return at_backward(grads)

    passed = Gate.apply(*(values[i] for i in places))
    wrapped = list(values)
    for i, tensor in zip(places, passed if isinstance(passed, (tuple, list)) else (passed,), strict=True):
        wrapped[i] = tensor
    return tuple(wrapped), places


def _spread(grads: tuple[Any, ...], places: list[int], count: int) -> tuple[Any, ...]:
    spread: list[Any] = [None] * count
    for place, grad in zip(places, grads, strict=True):
        spread[place] = grad
    return tuple(spread)
