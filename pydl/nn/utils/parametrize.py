"""Parameters computed by modules: ``layer.weight`` becomes ``parametrization(original)`` at each access."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl._tensor import Tensor
from pydl.nn.containers import ModuleDict, ModuleList
from pydl.nn.module import Module, Parameter
from pydl.nn.utils.computed import install, uninstall, without_computed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "type_before_parametrizations",
]

AnyModule = TypeVar("AnyModule", bound=Module)
_cache: dict[int, Tensor] | None = None


class ParametrizationList(ModuleList):
    """The parametrizations of one parameter, in order, and what it is computed from: ``original``, or where a
    ``right_inverse`` gives several tensors, ``original0``, ``original1``, ...
    """

    def __init__(self, modules: list[Module], original: Parameter) -> None:
        super().__init__(modules)
        self.ntensors = 0
        self._take(original)

    def _take(self, original: Parameter) -> None:
        with pydl.no_grad():
            value = self._inverted(original)
        if isinstance(value, Tensor):
            if value is not original:
                original.data = value.detach()
            self.register_parameter("original", original)
            return
        self.ntensors = len(value)
        for i, part in enumerate(value):
            part = part if part is original else Parameter(part.detach(), original.requires_grad)
            self.register_parameter(f"original{i}", part)

    def _inverted(self, value: Any) -> Any:
        for module in reversed(list(self)):
            inverse = getattr(module, "right_inverse", None)
            if inverse is not None:
                value = inverse(value)
        return value

    def originals(self) -> list[Parameter]:
        """What the parameter is computed from."""
        names = [f"original{i}" for i in range(self.ntensors)] if self.ntensors else ["original"]
        return [self.__dict__[name] for name in names]

    def forward(self) -> Tensor:
        """The parameter's value."""
        modules = list(self)
        value = modules[0](*self.originals())
        for module in modules[1:]:
            value = module(value)
        return value

    def value(self, module: Module) -> Tensor:
        """The parameter's value, kept where :func:`cached` is on."""
        if _cache is None:
            return self()
        if id(self) not in _cache:
            _cache[id(self)] = self()
        return _cache[id(self)]

    def assign(self, module: Module, value: Tensor) -> None:
        """Change the originals so that the parameter has this value, as near as a ``right_inverse`` can tell."""
        for each in self:
            if not hasattr(each, "right_inverse"):
                raise ValueError(
                    f"[parametrize] {type(each).__name__} has no right_inverse, so nothing can be assigned"
                )
        with pydl.no_grad():
            parts = self._inverted(value)
            for original, part in zip(self.originals(), [parts] if not self.ntensors else parts, strict=True):
                original.copy_(part)


def register_parametrization(
    module: AnyModule, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> AnyModule:
    """Compute a parameter from now on by a module; several registered follow each other.

    Args:
        module: the owner of the parameter, which moves to ``module.parametrizations.NAME.original``.
        tensor_name: the parameter's name.
        parametrization: its forward takes the original and gives the parameter. Where it has a ``right_inverse``, that
            makes the original from the present value (a tuple, if it is to be made from several), and assignment works.
        unsafe: let shape and dtype change; default False.

    Returns:
        The module.

    Raises:
        ValueError: there is no such parameter, or its shape or dtype would change.

    >>> from pydl import nn
    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return (x + x.T) / 2
    >>> layer = register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'parametrizations.weight.original']
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        plist = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
        before = getattr(module, tensor_name)
        after = parametrization(before)
        _check_unchanged(tensor_name, before, after, unsafe)
        if hasattr(parametrization, "right_inverse"):
            with pydl.no_grad():
                plist.assign(module, parametrization.right_inverse(before.detach()))
        plist.append(parametrization)
        return module
    original = module.__dict__.get(tensor_name) if tensor_name in module._parameter_names else None
    if not isinstance(original, Parameter):
        known = ", ".join(module._parameter_names) or "none"
        raise ValueError(
            f"[register_parametrization] {type(module).__name__} has no parameter {tensor_name!r}; it has: {known}"
        )
    before = original.detach().clone()
    plist = ParametrizationList([parametrization], original)
    try:
        _check_unchanged(tensor_name, before, plist(), unsafe)
    except BaseException:
        original.data = before
        raise
    delattr(module, tensor_name)
    if "parametrizations" not in module._module_names:
        module.add_module("parametrizations", ModuleDict())
    module.parametrizations[tensor_name] = plist  # type: ignore[attr-defined]
    install(module, tensor_name, plist, f"Parametrized{without_computed(module).__name__}")
    return module


def remove_parametrizations(module: AnyModule, tensor_name: str, leave_parametrized: bool = True) -> AnyModule:
    """Make a parameter plain again.

    Args:
        module: its owner.
        tensor_name: its name.
        leave_parametrized: keep the computed value; False: the original, where there is one.

    Raises:
        ValueError: it is not parametrized, or there are several originals to keep.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"[remove_parametrizations] {tensor_name!r} of {type(module).__name__} is not parametrized")
    plist = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    originals = plist.originals()
    if not leave_parametrized and plist.ntensors:
        raise ValueError(
            f"[remove_parametrizations] {tensor_name!r} is made from {plist.ntensors} tensors, so leave_parametrized "
            "must be True"
        )
    parameter = originals[0]
    if leave_parametrized:
        with pydl.no_grad():
            value = plist().detach().clone()
        if plist.ntensors or tuple(value.shape) != tuple(parameter.shape):
            parameter = Parameter(value, parameter.requires_grad)
        else:
            parameter.data = value  # the same object, so that an optimizer goes on with it
    del module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    uninstall(module, tensor_name)
    if len(module.parametrizations) == 0:  # type: ignore[attr-defined]
        del module.parametrizations  # type: ignore[attr-defined]
    module.register_parameter(tensor_name, parameter)
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a parameter of that name, or any, is computed by parametrizations."""
    parametrizations = module.__dict__.get("parametrizations")
    if not isinstance(parametrizations, ModuleDict):
        return False
    return len(parametrizations) > 0 if tensor_name is None else tensor_name in parametrizations


def type_before_parametrizations(module: Module) -> type:
    """The module's class before any parametrization."""
    return without_computed(module)


@contextmanager
def cached() -> Iterator[None]:
    """Within the block, each parametrized parameter is computed once: for layers that use it often."""
    global _cache
    before = _cache
    _cache = {} if before is None else before
    try:
        yield
    finally:
        _cache = before


def _check_unchanged(name: str, before: Tensor, after: Any, unsafe: bool) -> None:
    if unsafe:
        return
    if not isinstance(after, Tensor):
        raise ValueError(f"[register_parametrization] got a {type(after).__name__} from it, expected a tensor")
    if tuple(after.shape) != tuple(before.shape) or after.dtype != before.dtype:
        raise ValueError(
            f"[register_parametrization] {name!r} would become {tuple(after.shape)} of {after.dtype}, expected "
            f"{tuple(before.shape)} of {before.dtype}; unsafe=True lets it"
        )
