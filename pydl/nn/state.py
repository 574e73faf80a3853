"""A module tree's tensors as a flat dict, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pydl
from pydl._tensor import Tensor
from pydl.nn.hooks import hooks_of
from pydl.nn.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydl.nn.module import Module

__all__ = ["IncompatibleKeys", "collect_state", "is_lazy", "load_state"]


_EXTRA = "_extra_state"  # the name under which a module's further state stands


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find in the state, and what it did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def collect_state(
    module: Module, prefix: str, keep_vars: bool, state: dict[str, Any] | None = None, hooked: bool = True
) -> dict[str, Any]:
    """What :meth:`Module.state_dict` returns; ``hooked`` tells whether the state's hooks run."""
    state = {} if state is None else state
    for hook in hooks_of(module, "state_dict_pre") if hooked else ():
        hook(module, prefix, keep_vars)
    values = module.__dict__
    for name in module._parameter_names:
        if values[name] is not None:
            state[prefix + name] = values[name] if keep_vars else values[name].detach()
    for name, persistent in module._buffer_names.items():
        if persistent and values[name] is not None:
            state[prefix + name] = values[name] if keep_vars else values[name].detach()
    if hooked and (keeper := _keeper(module, "get_extra_state")):
        state[prefix + _EXTRA] = keeper()
    for name in module._module_names:
        if values[name] is not None:
            collect_state(values[name], f"{prefix}{name}.", keep_vars, state, hooked)
    for hook in hooks_of(module, "state_dict") if hooked else ():
        if hook(module, state, prefix, {}) is not None:
            raise TypeError(
                f"[state_dict] a hook of {type(module).__name__} returned something, expected None: change the "
                "state in place"
            )
    return state


def _keeper(module: Module, name: str) -> Callable[..., Any] | None:
    """A module's own ``get_extra_state`` or ``set_extra_state``, if its class has one."""
    from pydl.nn.module import Module

    return None if getattr(type(module), name) is getattr(Module, name) else getattr(module, name)


def load_state(root: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """What :meth:`Module.load_state_dict` does."""
    if not hasattr(state_dict, "keys"):
        raise TypeError(f"[load_state_dict] got a {type(state_dict).__name__}, expected a dict of names and tensors")
    faults: list[str] = []
    hooked_missing: list[str] = []
    hooked_unexpected: list[str] = []
    hooked = [(path, module) for path, module in root.named_modules(remove_duplicate=False) if module._hooks]
    if hooked:
        state_dict = dict(state_dict)  # which hooks may change
    for path, module in hooked:
        for hook in hooks_of(module, "load_state_dict_pre"):
            prefix = f"{path}." if path else ""
            hook(module, state_dict, prefix, {}, strict, hooked_missing, hooked_unexpected, faults)
    own = collect_state(root, "", keep_vars=True, hooked=False)
    extras = {
        f"{path}.{_EXTRA}" if path else _EXTRA: keeper
        for path, module in root.named_modules(remove_duplicate=False)
        if (keeper := _keeper(module, "set_extra_state"))
    }
    missing = [*hooked_missing, *(name for name in (*own, *extras) if name not in state_dict)]
    unexpected = [*hooked_unexpected, *(name for name in state_dict if name not in own and name not in extras)]
    values = {}
    for name, tensor in own.items():
        if name in state_dict:
            value = state_dict[name]
            values[name] = value if isinstance(value, Tensor) else pydl.asarray(value)
            if values[name].shape != tensor.shape and not is_lazy(tensor):
                faults.append(f"{name}: got shape {tuple(values[name].shape)}, expected {tuple(tensor.shape)}")
    modules = _children_first(root) if hooked else ()
    after = [(module, hook) for module in modules for hook in hooks_of(module, "load_state_dict")]
    if faults or not after:  # hooks that run afterwards may still forgive names
        _raise_faults(root, faults, missing, unexpected, strict)
    with pydl.no_grad():
        for name, value in values.items():
            if is_lazy(own[name]):
                own[name].materialize(tuple(value.shape))
            if assign:
                _assign(root, name, value)
            else:
                own[name].copy_(value)
    for name, keeper in extras.items():
        if name in state_dict:
            keeper(state_dict[name])
    keys = IncompatibleKeys(missing, unexpected)
    for module, hook in after:
        if hook(module, keys) is not None:
            raise TypeError(
                f"[load_state_dict] a hook of {type(module).__name__} returned something, expected None: change "
                "the lists of names in place"
            )
    if after:
        _raise_faults(root, [], missing, unexpected, strict)
    return keys


def _children_first(module: Module) -> Iterator[Module]:
    for name in module._module_names:
        if module.__dict__[name] is not None:
            yield from _children_first(module.__dict__[name])
    yield module


def _raise_faults(root: Module, faults: list[str], missing: list[str], unexpected: list[str], strict: bool) -> None:
    lines = []
    if strict and missing:
        lines.append("missing: " + ", ".join(missing))
    if strict and unexpected:
        lines.append("unexpected: " + ", ".join(map(str, unexpected)))
    lines += faults
    if strict and (missing or unexpected):
        lines.append("strict=False passes over missing and unexpected names" + _prefix_hint(missing, unexpected))
    if lines:
        raise ValueError("\n  ".join([f"[load_state_dict] the state does not fit {type(root).__name__}:", *lines]))


def _prefix_hint(missing: list[str], unexpected: list[str]) -> str:
    """Where all names differ by one prefix, as after a wrapper, say so."""
    for long, short, change in ((unexpected, missing, "without"), (missing, unexpected, "with")):
        if len(long) == len(short) and long and str(long[0]).endswith("." + str(short[0])):
            prefix = long[0][: -len(short[0])]
            if [prefix + name for name in short] == list(long):
                return f"; the names would fit {change} {prefix!r} in front"
    return ""


def _assign(root: Module, target: str, value: Tensor) -> None:
    path, _, name = target.rpartition(".")
    module = root.get_submodule(path)
    if name in module._parameter_names:
        old = module.__dict__[name]
        value = value if isinstance(value, Parameter) else Parameter(value, old.requires_grad)
    module.__dict__[name] = value


def is_lazy(value: Any) -> bool:
    """Whether it is one of nn.lazy's tensors, which has no shape yet."""
    return hasattr(value, "materialize")
