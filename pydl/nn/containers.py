"""Modules that hold other modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.nn.module import Module, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydl import Tensor

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class _Numbered(Module):
    """Children or parameters called "0", "1", ... in order: what lists have in common."""

    def __init__(self, entries: Iterable[Any] = ()) -> None:
        super().__init__()
        self._fill(entries or ())

    def _place(self, index: int, length: int | None = None) -> int:
        length = len(self) if length is None else length
        if isinstance(index, str):
            raise TypeError(f"[{type(self).__name__}] got {index!r} as index, expected a whole number or a slice")
        if not -length <= index < length:
            raise IndexError(f"[{type(self).__name__}] index {index} is out of range, it has {length} entries")
        return index % length if length else 0

    def _values(self) -> list[Any]:
        state = self.__dict__
        return [state[name] for name in self._registry()]

    def _registry(self) -> dict[str, None]:
        return self._module_names

    def _check(self, value: Any) -> Any:
        if not isinstance(value, Module):
            name, got = type(self).__name__, f"a {type(value).__name__}"
            hint = ""
            if isinstance(value, type):
                got, hint = f"the class {value.__name__}", f"; make a layer of it: {value.__name__}()"
            elif isinstance(value, (list, tuple)) and isinstance(self, Sequential):
                hint = f"; unpack it: {name}(*layers)"
            raise TypeError(f"[{name}] got {got}, expected a Module{hint}")
        return value

    def _fill(self, values: Iterable[Any]) -> None:
        """Make these the entries, numbered anew."""
        values = [self._check(value) for value in values]
        for name in list(self._registry()):
            delattr(self, name)
        for i, value in enumerate(values):
            self._register(str(i), value)

    def __len__(self) -> int:
        return len(self._registry())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values())

    def __contains__(self, value: Any) -> bool:
        return any(value is entry for entry in self._values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(self._values()[index])
        return self._values()[self._place(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        name = list(self._registry())[self._place(index)]
        self._register(name, self._check(value))

    def __delitem__(self, index: int | slice) -> None:
        values = self._values()
        del values[index if isinstance(index, slice) else self._place(index)]
        self._fill(values)

    def append(self, value: Any) -> Any:
        """Add an entry at the end; returns this container."""
        self._register(str(len(self)), self._check(value))
        return self

    def extend(self, values: Iterable[Any]) -> Any:
        """Add entries at the end; returns this container."""
        for value in list(values):
            self.append(value)
        return self

    def insert(self, index: int, value: Any) -> Any:
        """Put an entry before the one at ``index``; returns this container."""
        values = self._values()
        values.insert(index, value)
        self._fill(values)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take out the entry at ``index`` (default the last) and return it."""
        value = self[index]
        del self[index]
        return value


class Sequential(_Numbered):
    """Modules called one after the other, each with the result of the one before.

    Args:
        modules: any number of modules, called "0", "1", ...; or one dict name -> module.

    >>> from pydl import nn
    >>> nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Tanh()
    )
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], dict):
            for name, module in modules[0].items():
                self.add_module(name, self._check(module))
        else:
            self._fill(modules)

    def forward(self, input: Any) -> Any:
        """The result of the last module."""
        state = self.__dict__
        for name in self._module_names:
            input = state[name](input)
        return input

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        names = list(self._module_names)[index]
        part = type(self)()
        for name in names:
            part._register(name, self.__dict__[name])
        return part

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._module_names)
        chosen = names[index] if isinstance(index, slice) else [names[self._place(index)]]
        values = {name: self.__dict__[name] for name in names if name not in chosen}
        numbered = names == [str(i) for i in range(len(names))]
        for name in names:
            delattr(self, name)
        for i, (name, value) in enumerate(values.items()):
            self._register(str(i) if numbered else name, value)

    def __add__(self, other: Sequential) -> Sequential:
        return type(self)(*self, *self._others(other))

    def __iadd__(self, other: Sequential) -> Sequential:
        return self.extend(self._others(other))

    def __mul__(self, times: int) -> Sequential:
        return type(self)(*(list(self) * self._times(times)))

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Sequential:
        return self.extend(list(self) * (self._times(times) - 1))

    def _others(self, other: Any) -> list[Any]:
        if not isinstance(other, Sequential):
            raise TypeError(f"[Sequential] got a {type(other).__name__} to add, expected a Sequential")
        return list(other)

    def _times(self, times: Any) -> int:
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise ValueError(f"[Sequential] got {times!r} times, expected a whole number of 1 or more")
        return times


class ModuleList(_Numbered):
    """A list of modules that registers them; has no ``forward`` of its own.

    Args:
        modules: the first entries; default none.

    >>> from pydl import nn
    >>> layers = nn.ModuleList(nn.Linear(n, n + 1) for n in range(1, 4))
    >>> len(layers), layers[-1].out_features
    (3, 4)
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__(modules or ())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return type(self)([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> ModuleList:
        return self.extend(other)


class ParameterList(_Numbered):
    """A list of parameters that registers them; tensors are made parameters.

    Args:
        values: the first entries; default none.
    """

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__(values or ())

    def __iadd__(self, other: Iterable[Tensor]) -> ParameterList:
        return self.extend(other)

    def _registry(self) -> dict[str, None]:
        return self._parameter_names

    def _check(self, value: Any) -> Any:
        return _as_parameter(self, value)

    def extra_repr(self) -> str:
        """One line for each entry."""
        return _parameter_lines(self)


class _Named(Module):
    """Entries under names of the user's: what dicts have in common."""

    def _registry(self) -> dict[str, None]:
        return self._module_names

    def _check(self, value: Any) -> Any:
        if not isinstance(value, Module):
            raise TypeError(f"[{type(self).__name__}] got a {type(value).__name__}, expected a Module")
        return value

    def __getitem__(self, key: str) -> Any:
        if key not in self._registry():
            names = ", ".join(self._registry()) or "nothing"
            raise KeyError(f"[{type(self).__name__}] has no {key!r}; it has: {names}")
        return self.__dict__[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_new_name(key, "key")
        self._register(key, self._check(value))

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._registry())

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._registry()))

    def __contains__(self, key: str) -> bool:
        return key in self._registry()

    def keys(self) -> Iterable[str]:
        """The names, in order."""
        return list(self._registry())

    def values(self) -> Iterable[Any]:
        """The entries, in order."""
        return [self.__dict__[name] for name in self._registry()]

    def items(self) -> Iterable[tuple[str, Any]]:
        """Pairs of name and entry, in order."""
        return [(name, self.__dict__[name]) for name in self._registry()]

    def update(self, entries: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace entries."""
        for key, value in dict(entries).items():
            self[key] = value

    def pop(self, key: str) -> Any:
        """Take out an entry and return it."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Take out everything."""
        for key in self:
            delattr(self, key)


class ModuleDict(_Named):
    """Modules by name, in order; has no ``forward`` of its own.

    Args:
        modules: the first entries, a dict or pairs; default none.

    Raises:
        KeyError: a name that is empty, holds a dot or is a method's (such as ``"keys"``).

    >>> from pydl import nn
    >>> heads = nn.ModuleDict({"digits": nn.Linear(8, 10), "parity": nn.Linear(8, 2)})
    >>> heads["parity"].out_features
    2
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or ())


class ParameterDict(_Named):
    """Parameters by name, in order; tensors are made parameters.

    Args:
        parameters: the first entries, a dict or pairs; default none.
    """

    def __init__(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None) -> None:
        super().__init__()
        self.update(parameters or ())

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __or__(self, other: Mapping[str, Any]) -> ParameterDict:
        made = self.copy()
        made.update(dict(other.items()))
        return made

    def __ror__(self, other: Mapping[str, Any]) -> ParameterDict:
        return ParameterDict({**dict(other.items()), **dict(self.items())})

    def __ior__(self, other: Mapping[str, Any]) -> ParameterDict:
        self.update(dict(other.items()))
        return self

    def copy(self) -> ParameterDict:
        """Another dict of the same parameters."""
        return ParameterDict(dict(self.items()))

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter of that name, or the default."""
        return self[key] if key in self else default  # noqa: SIM401 (this is get)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The parameter of that name, which is added where it is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        """Take out the entry that was added last and return it."""
        if not len(self):
            raise KeyError("[ParameterDict] is empty")
        key = list(self)[-1]
        return key, self.pop(key)

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A dict with these names, each with the same value."""
        return ParameterDict(dict.fromkeys(keys, default))

    def _registry(self) -> dict[str, None]:
        return self._parameter_names

    def _check(self, value: Any) -> Any:
        return _as_parameter(self, value)

    def extra_repr(self) -> str:
        """One line for each entry."""
        return _parameter_lines(self)


def _as_parameter(container: Module, value: Any) -> Parameter:
    from pydl import Tensor

    if not isinstance(value, Tensor):
        raise TypeError(f"[{type(container).__name__}] got a {type(value).__name__}, expected a Tensor")
    return value if isinstance(value, Parameter) else Parameter(value)


def _parameter_lines(module: Module) -> str:
    named = module.named_parameters(recurse=False)
    return "\n".join(f"({name}): Parameter of shape {tuple(p.shape)}, {p.dtype}" for name, p in named)
