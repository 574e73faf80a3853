"""A module tree's tensors as a flat dict, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pydl
from pydl._tensor import Tensor
from pydl.nn.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.nn.module import Module

__all__ = ["IncompatibleKeys", "collect_state", "is_lazy", "load_state"]


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not find in the state, and what it did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def collect_state(root: Module, prefix: str, keep_vars: bool) -> dict[str, Any]:
    """What :meth:`Module.state_dict` returns."""
    state: dict[str, Any] = {}
    for path, module in root.named_modules(remove_duplicate=False):
        base = f"{prefix}{path}." if path else prefix
        values = module.__dict__
        for name in module._parameter_names:
            if values[name] is not None:
                state[base + name] = values[name] if keep_vars else values[name].detach()
        for name, persistent in module._buffer_names.items():
            if persistent and values[name] is not None:
                state[base + name] = values[name] if keep_vars else values[name].detach()
    return state


def load_state(root: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """What :meth:`Module.load_state_dict` does."""
    if not hasattr(state_dict, "keys"):
        raise TypeError(f"[load_state_dict] got a {type(state_dict).__name__}, expected a dict of names and tensors")
    own = root.state_dict(keep_vars=True)
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    faults = []
    if strict and missing:
        faults.append("missing: " + ", ".join(missing))
    if strict and unexpected:
        faults.append("unexpected: " + ", ".join(map(str, unexpected)))
    values = {}
    for name, tensor in own.items():
        if name in state_dict:
            value = state_dict[name]
            values[name] = value if isinstance(value, Tensor) else pydl.asarray(value)
            if values[name].shape != tensor.shape and not is_lazy(tensor):
                faults.append(f"{name}: got shape {tuple(values[name].shape)}, expected {tuple(tensor.shape)}")
    if faults:
        if strict and (missing or unexpected):
            faults.append("strict=False passes over missing and unexpected names" + _prefix_hint(missing, unexpected))
        raise ValueError("\n  ".join([f"[load_state_dict] the state does not fit {type(root).__name__}:", *faults]))
    with pydl.no_grad():
        for name, value in values.items():
            if is_lazy(own[name]):
                own[name].materialize(tuple(value.shape))
            if assign:
                _assign(root, name, value)
            else:
                own[name].copy_(value)
    return IncompatibleKeys(missing, unexpected)


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
