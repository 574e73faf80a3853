"""Attributes of one module that are computed at each access, in place of a parameter.

A module whose ``weight`` is computed gets a class of its own, made from its class, with a property of that name. What
computes it is kept in the module, so that copies and pickles work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["Rule", "computed_rule", "install", "take_parameter", "uninstall", "without_computed"]


class Rule(Protocol):
    """How an attribute is computed."""

    def value(self, module: Any) -> Tensor:
        """The attribute's value."""
        ...

    def assign(self, module: Any, value: Any) -> None:
        """Make it have a value, or raise."""
        ...


_classes: dict[tuple[type, str, tuple[str, ...]], type] = {}  # shared, so that equal modules are of one type


def _class_of(base: type, title: str, names: tuple[str, ...]) -> type:
    known = _classes.get((base, title, names))
    if known is not None:
        return known

    def computed(name: str) -> property:
        def get(self: Any) -> Tensor:
            return self.__dict__["_computed"][name].value(self)

        return property(get)

    def set_attribute(self: Any, name: str, value: Any) -> None:
        if name in names:
            self.__dict__["_computed"][name].assign(self, value)
        else:
            super(made, self).__setattr__(name, value)

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        return _rebuild, (base, title, names), self.__dict__

    members: dict[str, Any] = {name: computed(name) for name in names}
    members.update(
        __setattr__=set_attribute,
        __reduce_ex__=reduce,
        __module__=base.__module__,
        __doc__=base.__doc__,
        _plain_class=base,
    )
    made: Any = type(title, (base,), members)
    _classes[base, title, names] = made
    return made


def _rebuild(base: type, title: str, names: tuple[str, ...]) -> Any:
    made = _class_of(base, title, names)
    return object.__new__(made)


def without_computed(module: Module) -> type:
    """The class that the module had before any attribute was computed."""
    return getattr(type(module), "_plain_class", type(module))


def computed_rule(module: Module, name: str) -> Any:
    """What computes an attribute, or None."""
    return module.__dict__.get("_computed", {}).get(name)


def install(module: Module, name: str, rule: Rule, title: str | None = None) -> None:
    """Compute an attribute from now on; ``title`` is the new name of the module's class."""
    computed = {**module.__dict__.get("_computed", {}), name: rule}
    _set_computed(module, computed, title)


def uninstall(module: Module, name: str) -> None:
    """Undo :func:`install`; the attribute is gone then."""
    computed = dict(module.__dict__["_computed"])
    del computed[name]
    _set_computed(module, computed, type(module).__name__)


def _set_computed(module: Module, computed: dict[str, Any], title: str | None) -> None:
    base = without_computed(module)
    if computed:
        module.__dict__["_computed"] = computed
        module.__class__ = _class_of(base, title or base.__name__, tuple(computed))
    else:
        module.__dict__.pop("_computed", None)
        module.__class__ = base


def take_parameter(op: str, module: Module, name: str) -> Parameter:
    """The module's own parameter, taken out of it.

    Raises:
        ValueError: there is none, or it is computed already.
    """
    if computed_rule(module, name) is not None:
        raise ValueError(f"[{op}] {name!r} of {type(module).__name__} is computed already; remove that first")
    value = module.__dict__.get(name) if name in module._parameter_names else None
    if not isinstance(value, Parameter):
        known = ", ".join(module._parameter_names) or "none"
        raise ValueError(f"[{op}] {type(module).__name__} has no parameter {name!r}; it has: {known}")
    delattr(module, name)
    return value
