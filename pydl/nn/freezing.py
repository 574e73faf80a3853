"""Which layers are trained: what Module.freeze and Module.unfreeze do, and the choice of layers by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydl.nn.module import Module

__all__ = ["matching_names", "set_frozen"]


def set_frozen(module: Module, frozen: bool, patterns: tuple[str, ...], depth: int | None) -> None:
    """Switch the gradients of the chosen layers, and the statistics of normalization layers among them."""
    op = "freeze" if frozen else "unfreeze"
    if depth is not None:
        if patterns:
            raise ValueError(f"[{op}] got patterns and depth, expected one of them")
        layers = [name for name, below in module.named_modules() if below._parameter_names]
        selected = layers[:depth] if depth >= 0 else layers[depth:]
        chosen = matching_names(module, tuple(selected), exact=True, op=op)
    else:
        chosen = matching_names(module, patterns or ("*",), exact=False, op=op)
    for path, below in module.named_modules():
        own = [f"{path}.{name}" if path else name for name in below._parameter_names]
        for name, full in zip(below._parameter_names, own, strict=True):
            if full in chosen and below.__dict__[name] is not None:
                below.__dict__[name].requires_grad_(not frozen)
        if path in chosen or (own and all(full in chosen for full in own)):
            below.__dict__["_frozen"] = frozen
            if below._eval_when_frozen:
                below.__dict__["training"] = module.training and not frozen


def matching_names(module: Module, patterns: tuple[str, ...], exact: bool, op: str) -> set[str]:
    """Full names of the modules and parameters that the patterns select; ``exact`` takes names, not patterns.

    Raises:
        ValueError: a pattern selects nothing; ``op`` is who asked.
    """
    names = [name for name, _ in module.named_modules()]
    names += [name for name, _ in module.named_parameters()]
    chosen = set()
    for pattern in patterns:
        if exact:
            own = module.get_submodule(pattern)._parameter_names
            found = [f"{pattern}.{name}" if pattern else name for name in own]
        else:
            found = [n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, pattern + ".*")]
            if not found:
                known = ", ".join(names[1:])
                raise ValueError(f"[{op}] no module or parameter is called {pattern!r}; names are: {known}")
        chosen.update(found)
    return chosen
