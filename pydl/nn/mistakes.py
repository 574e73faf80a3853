"""What is added to an error on its way out of a model: which layer it came from, and the way out where it is known."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import pydl

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydl.nn.module import Module

__all__ = ["MissingAttributeError", "close_to", "locate"]


def locate(module: Module, error: BaseException, args: tuple[Any, ...]) -> None:
    """Add to pydl's own messages the layer that refused its input, and its name in the model that is unwound."""
    found = error.__dict__.get("_refused")
    if found is None:
        if not error.args or not isinstance(error.args[0], str):
            return
        if "(): incompatible function arguments." in error.args[0]:
            error.args = (_plainly(error.args[0]), *error.args[1:])
        if not error.args[0].startswith("["):
            return
        hint = _hint(module, args)
        found = error.__dict__["_refused"] = [module, "", error.args[0] + (f"; {hint}" if hint else "")]
    else:
        names = (name for name in module._module_names if module.__dict__[name] is found[3])
        name = next(names, None)
        if name is not None:
            found[1] = f"{name}.{found[1]}" if found[1] else name
    layer, path, message = found[:3]
    found[3:] = [module]
    kind = type(layer).__name__
    what = kind if layer._module_names else repr(layer)
    where = f"layer {path!r} of {type(module).__name__}, {what}" if path else what
    error.args = (f"{message}\n  in {where}", *error.args[1:])


def _plainly(message: str) -> str:
    """What the bindings say of an argument of the wrong type, in a line: the op, what it got, what it expected."""
    import re

    found = re.match(r"(\w+)\(\): incompatible .*?\n\s+1\. (\(.*?\)) -> .*?\n\nInvoked with: (.*)", message, re.DOTALL)
    if found is None:
        return message
    op, expected, got = found.groups()
    for theirs, plain in (("Float", "float"), ("Int", "int")):
        expected = expected.replace(f"typing.Supports{theirs} | typing.SupportsIndex", plain)
    got = re.sub(r"tensor\((?:[^()]|\([^()]*\))*\)", "Tensor", got)
    return f"[{op}] got ({got:.200}), expected {expected.replace('collections.abc.', '')}"


def _hint(module: Module, args: tuple[Any, ...]) -> str:
    x = args[0] if args else None
    if isinstance(x, tuple) and x and isinstance(x[0], pydl.Tensor):
        return "recurrent layers return (output, state): pass on the output alone"
    if not isinstance(x, pydl.Tensor):
        return ""
    kinds = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("pydl.nn.")]
    for name, (attribute, hint) in _HINTS.items():
        if any(kind.startswith(name) for kind in kinds) and hasattr(module, attribute):
            return hint(module, tuple(x.shape))
    return ""


def _linear(layer: Any, shape: tuple[int, ...]) -> str:
    wanted = layer.in_features
    if shape[-1:] == (wanted,):
        return ""
    if len(shape) > 2 and prod(shape[1:]) == wanted:
        return "flatten the input first, with nn.Flatten() or x.flatten(1)"
    if len(shape) > 2:
        return f"make the layer with in_features={shape[-1]}, or after nn.Flatten() with in_features={prod(shape[1:])}"
    return f"make the layer with in_features={shape[-1]}" if shape else ""


def _convolution(layer: Any, shape: tuple[int, ...]) -> str:
    rank, channels = layer.rank, layer.in_channels
    if len(shape) == rank + 2 and shape[1] != channels and shape[-1] == channels:
        order = (0, rank + 1, *range(1, rank + 1))
        return f"channels come first: permute_dims(x, {order})"
    if len(shape) == rank + 1 and shape[0] != channels == 1:
        return "add the axis of channels: expand_dims(x, axis=1)"
    if len(shape) == rank:
        return "add the axes of batch and channels: x[None, None]"
    if len(shape) == rank + 2 and shape[1] != channels:
        return f"make the layer with in_channels={shape[1]}"
    return ""


def _recurrent(layer: Any, shape: tuple[int, ...]) -> str:
    if shape and shape[-1] != layer.input_size:
        return f"make the layer with input_size={shape[-1]}"
    return ""


# How the names of pydl's layers begin -> the attribute that the hint is about, and the hint.
_HINTS: dict[str, tuple[str, Callable[[Any, tuple[int, ...]], str]]] = {
    "Linear": ("in_features", _linear),
    "Conv": ("in_channels", _convolution),
    "RNN": ("input_size", _recurrent),
    "LSTM": ("input_size", _recurrent),
    "GRU": ("input_size", _recurrent),
}


# Words that models of other libraries have, and where they are here.
_ELSEWHERE = {
    "fit": "pydl.Trainer(model, loss).fit(x, y) trains it",
    "compile": "pydl.Trainer(model, loss, optimizer, metrics) takes what compile does",
    "evaluate": "pydl.Trainer(model, loss, metrics=[...]).evaluate(x, y) does that",
    "predict": "pydl.Trainer(model).predict(x) does that",
    "add": "append(layer) does that",
    "save": "pydl.save(model.state_dict(), path) does that",
    "save_weights": "pydl.save(model.state_dict(), path) does that",
    "load_weights": "model.load_state_dict(pydl.load(path)) does that",
    "get_weights": "state_dict() has them",
    "set_weights": "load_state_dict(...) does that",
}


class MissingAttributeError(AttributeError):
    """Looks for a similar name only when somebody reads the message, as hasattr does not."""

    def __init__(self, owner: Any, missing: str) -> None:
        super().__init__(missing)
        self.owner, self.missing = owner, missing

    def __str__(self) -> str:
        hint = _ELSEWHERE.get(self.missing, "")
        if not hint:
            similar = close_to(self.missing, dir(self.owner))
            hint = f"did you mean {similar!r}?" if similar else ""
        hint = hint and f"; {hint}"
        return f"[{type(self.owner).__name__}] has no parameter, module or attribute {self.missing!r}{hint}"


def close_to(name: str, names: Any) -> str | None:
    """The most similar of some names, if one is similar at all."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, [n for n in names if n != name and not n.startswith("_")], 1)), None)
