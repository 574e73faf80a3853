"""A model under observation: which module's input, parameter, output or gradient is the first that is not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydl
from pydl.train.structure import leaves

if TYPE_CHECKING:
    from pydl.nn import Module

__all__ = ["Observed", "fault_of"]


def fault_of(structure: Any) -> str:
    """ "nan", "inf" (any infinity above), "-inf" (only that one, as masks have it) or "" for finite numbers."""
    worst = ""
    for _, leaf in leaves(structure):
        if not isinstance(leaf, pydl.Tensor) or not leaf.dtype.is_floating_point or leaf.size == 0:
            continue
        leaf = leaf.detach()
        if bool(pydl.isfinite(leaf).all()):
            continue
        if bool(pydl.isnan(leaf).any()):
            return "nan"
        worst = "inf" if worst == "inf" or bool((leaf == pydl.inf).any()) else "-inf"
    return worst


class Observed:
    """Within the block every module of a model is watched. The first fault is in :attr:`layer` and :attr:`tensor`.

    Forward: a module's parameters and inputs are looked at before it runs, its outputs afterwards. What goes wrong
    between two of a module's children is the module's own. Backward: the same with the gradients of outputs and inputs.
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._handles: list[Any] = []
        self._running: list[str] = []  # modules whose forward runs, innermost last
        self._open: list[str] = []  # modules whose backward has begun with finite gradients
        self._order: list[tuple[str, Module]] = []  # as they ran
        self._faults: list[tuple[str, str, str]] = []  # kind, layer, tensor
        self._backward_fault: tuple[str, str] | None = None

    def __enter__(self) -> Observed:
        with pydl.no_grad():
            for name, module in self._model.named_modules():
                add = self._handles.append
                add(module.register_forward_pre_hook(self._before(name), prepend=True, with_kwargs=True))
                add(module.register_forward_hook(self._after(name)))
                add(module.register_full_backward_pre_hook(self._gradient_arrives(name)))
                add(module.register_full_backward_hook(self._gradient_leaves(name)))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def result(self) -> tuple[str, str] | None:
        """(layer, tensor) of the first fault; a -inf, which masks have, only where there is nothing else."""
        for kinds in (("nan", "inf"), ("-inf",)):
            for kind, layer, tensor in self._faults:
                if kind in kinds:
                    return layer, tensor
        if self._backward_fault is not None:
            return self._backward_fault
        for name, module in reversed(self._order):
            for own in module._parameter_names:
                parameter = module.__dict__[own]
                if parameter is not None and parameter.grad is not None and fault_of(parameter.grad):
                    return name, f"gradient of {own}"
        return None

    def look_at(self, structure: Any, tensor: str) -> None:
        """Look at something outside of all modules."""
        kind = fault_of(structure)
        if kind:
            self._faults.append((kind, "", tensor))

    def _before(self, name: str) -> Any:
        def hook(module: Module, args: Any, kwargs: Any) -> None:
            kind = fault_of((args, kwargs))
            if kind:
                inside = self._running[-1] if self._running else ""
                self._faults.append((kind, inside, "activation" if self._running else "input"))
            for own in module._parameter_names:
                kind = fault_of(module.__dict__[own])
                if kind:
                    self._faults.append((kind, name, f"parameter {own}"))
            self._running.append(name)
            self._order.append((name, module))

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: Module, args: Any, output: Any) -> None:
            if self._running and self._running[-1] == name:
                self._running.pop()
            kind = fault_of(output)
            if kind:
                self._faults.append((kind, name, "activation"))

        return hook

    def _gradient_arrives(self, name: str) -> Any:
        def hook(module: Module, gradients: Any) -> None:
            if self._backward_fault is None:
                if not fault_of(gradients):
                    self._open.append(name)
                elif self._open:
                    self._backward_fault = (self._open[-1], "gradient")
                else:
                    self._backward_fault = ("", "gradient of the loss")

        return hook

    def _gradient_leaves(self, name: str) -> Any:
        def hook(module: Module, of_inputs: Any, of_outputs: Any) -> None:
            if self._backward_fault is None and name in self._open:
                if fault_of(of_inputs):
                    self._backward_fault = (name, "gradient")
                self._open.remove(name)

        return hook
