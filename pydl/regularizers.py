"""Penalties on weights, biases and activations, in Keras's words: L1, L2, elastic net, orthogonality.

A penalty is a number that is added to the loss: ``loss = F.cross_entropy(model(x), y) + penalty(model)``. What it is
made of is said once, layer by layer or by name:

    layer = nn.Linear(4, 3, kernel_regularizer=L2(1e-4), activity_regularizer=L1(1e-5))
    regularize(model, "*.weight", L1L2(l1=1e-5, l2=1e-4))

Every layer takes, by name, ``kernel_``, ``bias_``, ``recurrent_`` (weights from h to h), ``embeddings_``, ``gamma_``
and ``beta_`` (scales and shifts of normalization) with ``regularizer`` or ``constraint``, and ``activity_regularizer``.

Weight decay is something else: an optimizer's own option, which for SGD is the gradient of
``L2(weight_decay, half=True)``, and which AdamW and ``decoupled_weight_decay=True`` keep out of all moments.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import pydl
from pydl import _C
from pydl.nn.arguments import explain_constructor
from pydl.nn.freezing import matching_names
from pydl.nn.module import Module
from pydl.optim.optimizer import check_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydl import Tensor
    from pydl.nn import Parameter
    from pydl.optim import Optimizer

__all__ = ["L1", "L1L2", "L2", "OrthogonalRegularizer", "ProximalL1", "Regularizer", "penalty", "regularize"]

AnyModule = TypeVar("AnyModule", bound=Module)


class Regularizer:
    """Base of all penalties: calling one with a tensor gives a 0-d tensor. Subclasses define ``__call__``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__ == __name__ and "__init__" in cls.__dict__:
            explain_constructor(cls, attachable=False)

    def __call__(self, x: Tensor) -> Tensor:
        """The penalty of one tensor of any shape, differentiable."""
        raise NotImplementedError(f"[{type(self).__name__}] has no __call__ method; define one")


class L1L2(Regularizer):
    """Elastic net: l1·Σ|w| + l2·Σw².

    Zou and Hastie, "Regularization and variable selection via the elastic net" (2005).

    Args:
        l1, l2: 0 or more; default 0.
        half: (l2/2)·Σw² instead, whose gradient is l2·w; with ``penalty(model, samples=m)`` that is (λ/2m)‖W‖²; default
            False, as in Keras.

    >>> import pydl
    >>> L1L2(l1=0.5, l2=0.25)(pydl.asarray([1.0, -2.0])).item()
    2.75
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0, half: bool = False) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            check_option(type(self).__name__, name, value)
        self.l1 = float(l1)
        self.l2 = float(l2)
        self.half = half

    def rates(self) -> tuple[float, float]:
        """The factors of Σ|w| and of Σw²."""
        return self.l1, self.l2 / 2 if self.half else self.l2

    def __call__(self, x: Tensor) -> Tensor:
        """Any shape -> 0-d."""
        l1, l2 = self.rates()
        return _C.penalty([x], [l1], [l2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(l1={self.l1:g}, l2={self.l2:g}, half={self.half})"


class L1(L1L2):
    """l1·Σ|w|, which makes weights small and many of them nearly zero; for exact zeros see :class:`ProximalL1`.

    Args:
        l1: 0 or more; default 0.01.

    >>> import pydl
    >>> L1(0.5)(pydl.asarray([1.0, -2.0])).item()
    1.5
    """

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1=l1)

    def __repr__(self) -> str:
        return f"L1({self.l1:g})"


class L2(L1L2):
    """l2·Σw², or with ``half`` (l2/2)·Σw².

    Args:
        l2: 0 or more; default 0.01.
        half: default False, as in Keras.

    >>> import pydl
    >>> x = pydl.asarray([1.0, -2.0])
    >>> L2(0.5)(x).item(), L2(0.5, half=True)(x).item()
    (2.5, 1.25)
    """

    def __init__(self, l2: float = 0.01, half: bool = False) -> None:
        super().__init__(l2=l2, half=half)

    def __repr__(self) -> str:
        return f"L2({self.l2:g}, half={self.half})"


class OrthogonalRegularizer(Regularizer):
    """factor times the mean magnitude of the cosines between different rows (or columns) of a matrix.

    Args:
        factor: 0 or more; default 0.01.
        mode: ``"rows"`` (default) or ``"columns"``. Rows are what a layer's units compute from: a weight of more axes
            is taken as (units, everything else).

    >>> import pydl
    >>> OrthogonalRegularizer(1.0)(pydl.eye(3)).item()
    0.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        if mode not in ("rows", "columns"):
            raise ValueError(f"[OrthogonalRegularizer] got mode={mode!r}, expected 'rows' or 'columns'")
        check_option("OrthogonalRegularizer", "factor", factor)
        self.factor = float(factor)
        self.mode = mode

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, ...) -> 0-d."""
        if x.ndim < 2:
            raise ValueError(f"[OrthogonalRegularizer] got shape {tuple(x.shape)}, expected two axes or more")
        matrix = x.reshape((x.shape[0], -1))
        matrix = matrix if self.mode == "rows" else matrix.T
        size = matrix.shape[0]
        if size < 2:
            return (matrix * 0.0).sum()
        norms = (matrix * matrix).sum(axis=1, keepdims=True) ** 0.5
        unit = matrix / pydl.clip(norms, 1e-12)
        cosines = (unit @ unit.T) * (1.0 - pydl.eye(size, dtype=x.dtype))
        return self.factor * cosines.abs().sum() / (size * (size - 1))

    def __repr__(self) -> str:
        return f"OrthogonalRegularizer({self.factor:g}, mode={self.mode!r})"


def regularize(
    module: AnyModule,
    pattern: str | None = None,
    regularizer: Regularizer | None = None,
    *,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    recurrent_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
) -> AnyModule:
    """Say what :func:`penalty` is to count of a layer or a model. Several calls add up.

    Args:
        module: a layer or a whole model.
        pattern: names of parameters or modules below, with ``*`` and ``?`` as in file names; a module's name stands for
            all its parameters. Default everything.
        regularizer: for all parameters selected.
        kernel_regularizer: for those of them with ``weight`` in their name and two axes or more, but not the recurrent.
        bias_regularizer: for those of them with ``bias`` in their name.
        recurrent_regularizer: for those of them that lead from h to h, ``weight_hh`` of recurrent layers and cells.
        activity_regularizer: for the output of the module itself or, with a pattern, of the modules that it names, in
            training mode; divided by the batch size. A module that returns several outputs counts the first.

    Returns:
        The module.

    Raises:
        ValueError: the pattern selects nothing, or no regularizer is given.

    >>> from pydl import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> regularize(model, "*.weight", L2(0.01)) is model
    True
    """
    by_kind = {"kernel": kernel_regularizer, "bias": bias_regularizer, "recurrent": recurrent_regularizer}
    given = (regularizer, *by_kind.values(), activity_regularizer)
    if all(each is None for each in given):
        raise ValueError("[regularize] got no regularizer")
    for each in given:
        if each is not None and not callable(each):
            raise TypeError(
                f"[regularize] got a {type(each).__name__}, expected a Regularizer or a function of a tensor"
            )
    chosen = matching_names(module, (pattern or "*",), exact=False, op="regularize")
    found = False
    for owner, path, name, parameter in _owned_parameters(module):
        if path not in chosen:
            continue
        wanted = [each for each in (regularizer, by_kind.get(_kind(name, parameter))) if each is not None]
        owner.__dict__.setdefault("_regularizers", {}).setdefault(name, []).extend(wanted)
        found = found or bool(wanted)
    if activity_regularizer is not None:
        found = _regularize_outputs(module, pattern, activity_regularizer) or found
    if not found:
        raise ValueError(f"[regularize] {pattern or 'the module'} selects nothing that these regularizers are for")
    return module


def attach(module: Module, attached: Mapping[str, Any]) -> None:
    """Keep what a layer's constructor was given: ``kernel_regularizer``, ``bias_constraint`` and the like."""
    layer = type(module).__name__
    for argument, each in attached.items():
        if each is None:
            continue
        kind, _, what = argument.rpartition("_")
        if not callable(each):
            expected = f"a {what.capitalize()} as {'L2(1e-4)' if what == 'regularizer' else 'MaxNorm(3.0)'}"
            raise TypeError(f"[{layer}] got {argument}={each!r}, expected {expected}, or a function of a tensor")
        if kind == "activity":
            _regularize_outputs(module, None, each)
            continue
        kind = {"embeddings": "kernel", "beta": "bias"}.get(kind, kind)
        found = False
        for owner, _, name, parameter in _owned_parameters(module):
            if _kind(name, parameter) == kind or (kind == "gamma" and hasattr(parameter, "materialize")):
                owner.__dict__.setdefault(f"_{what}s", {}).setdefault(name, []).append(each)
                found = True
        if not found and kind != "bias":
            there = ", ".join(name for name, _ in module.named_parameters()) or "none"
            raise ValueError(f"[{layer}] got {argument}, but has no parameter of that kind; its parameters: {there}")


def _kind(name: str, parameter: Tensor) -> str:
    """What a parameter is in Keras's words: bias, recurrent, kernel, gamma, or nothing of these."""
    if "bias" in name:
        return "bias"
    if name.startswith("weight_hh"):
        return "recurrent"
    if "weight" not in name:
        return ""
    return (
        "kernel" if parameter.ndim > 1 or hasattr(parameter, "materialize") else "gamma"
    )  # a lazy one has no axes yet


def penalty(module: Module, samples: int | None = None) -> Tensor:
    """All penalties of a model, for addition to the loss: one fused call for L1 and L2 over all tensors.

    Args:
        module: what :func:`regularize` was told of; parts of it count as well.
        samples: m, for the convention of a loss that is a mean over m samples: the penalties of weights and biases are
            divided by it, so that ``L2(λ, half=True)`` makes (λ/2m)·‖W‖². Default: no division.

    Returns:
        A 0-d tensor, differentiable; 0 where nothing is regularized. Activations count those of the calls since the
        module that was given to ``regularize`` was called last.

    >>> import pydl
    >>> from pydl import nn
    >>> model = regularize(nn.Linear(2, 1), kernel_regularizer=L2(0.5))
    >>> _ = nn.init.constant_(model.weight, 2.0)
    >>> penalty(model).item(), penalty(model, samples=4).item()
    (4.0, 1.0)
    """
    if not isinstance(module, Module):
        raise TypeError(f"[penalty] got a {type(module).__name__}, expected the model whose layers have regularizers")
    if samples is not None and samples < 1:
        raise ValueError(f"[penalty] got samples {samples}, expected 1 or more")
    share = 1.0 if samples is None else 1.0 / samples
    tensors, l1s, l2s, others, activities = [], [], [], [], []
    counted = set()
    for owner in module.modules():
        for name, regularizers in owner.__dict__.get("_regularizers", {}).items():
            tensor = getattr(owner, name)
            for each in regularizers:
                if tensor is None or (id(tensor), id(each)) in counted:
                    continue
                counted.add((id(tensor), id(each)))
                if isinstance(each, L1L2):
                    l1, l2 = each.rates()
                    tensors.append(tensor)
                    l1s.append(l1 * share)
                    l2s.append(l2 * share)
                else:
                    others.append(each(tensor) * share)
        for hook in owner.__dict__.get("_activity_regularizers", ()):
            activities += hook.terms
    total = _C.penalty(tensors, l1s, l2s) if tensors else None
    for term in others + activities:
        total = term if total is None else total + term
    return pydl.zeros(()) if total is None else total


class ProximalL1:
    """L1 with exact zeros: after each step of an optimizer, w ← sign(w)·max(|w| - lr·l1, 0).

    With plain SGD that is proximal gradient descent (ISTA) on loss + l1·Σ|w|, whose fixed points are those of the
    lasso: Daubechies et al., "An iterative thresholding algorithm for linear inverse problems" (2004). With optimizers
    that scale their steps it is a heuristic.

    Args:
        optimizer: whose steps it follows; the groups' own ``lr`` is used.
        l1: 0 or more; default 0.01.
        params: which of the optimizer's parameters; default those of two axes or more.

    ``remove()`` takes it off.

    >>> import pydl
    >>> from pydl import optim
    >>> w = pydl.asarray([[1.0, 0.2]]).requires_grad_()
    >>> optimizer = optim.SGD([w], lr=0.5)
    >>> proximal = ProximalL1(optimizer, l1=0.5)
    >>> w.grad = pydl.zeros((1, 2))
    >>> optimizer.step()
    >>> w.detach().numpy().tolist()
    [[0.75, 0.0]]
    """

    def __init__(self, optimizer: Optimizer, l1: float = 0.01, params: Iterable[Tensor] | None = None) -> None:
        check_option("ProximalL1", "l1", l1)
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(
                f"[ProximalL1] got a {type(optimizer).__name__}, expected the optimizer whose steps it follows"
            )
        self.l1 = float(l1)
        self._chosen = None if params is None else {id(param) for param in params}
        self._handle = optimizer.register_step_post_hook(self._shrink)

    def _shrink(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if self._chosen is None:
                params = [param for param in params if param.ndim > 1]
            else:
                params = [param for param in params if id(param) in self._chosen]
            _C.soft_threshold_(params, float(group["lr"]) * self.l1)

    def remove(self) -> None:
        """Stop shrinking."""
        self._handle.remove()


class _ActivityHook:
    """Keeps the penalties of a module's outputs until the next call of the whole model."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.regularizer = regularizer
        self.terms: list[Tensor] = []

    def __call__(self, module: Module, args: Any, output: Any) -> None:
        if not module.training or not pydl.is_grad_enabled():
            return
        first = output[0] if isinstance(output, (tuple, list)) else output
        batch = max(1, first.shape[0]) if first.ndim > 0 else 1
        self.terms.append(self.regularizer(first) / batch)

    def clear(self, module: Module, args: Any) -> None:
        """Forget the last call's."""
        self.terms.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"regularizer": self.regularizer, "terms": []}  # a copy of a model takes no graph along


def _regularize_outputs(module: Module, pattern: str | None, regularizer: Regularizer) -> bool:
    found = False
    for name, below in module.named_modules():
        if (name == "") if pattern is None else fnmatchcase(name, pattern):
            hook = _ActivityHook(regularizer)
            module.register_forward_pre_hook(hook.clear)
            below.register_forward_hook(hook)
            below.__dict__.setdefault("_activity_regularizers", []).append(hook)
            found = True
    return found


def _owned_parameters(module: Module) -> Iterator[tuple[Module, str, str, Parameter]]:
    """Owner, full name, own name and value of each parameter."""
    for path, owner in module.named_modules():
        for name in owner._parameter_names:
            value = owner.__dict__[name]
            if value is not None:
                yield owner, f"{path}.{name}" if path else name, name, value
