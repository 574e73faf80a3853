"""Gradients beyond Tensor.backward: grad, functions with their own gradient, a check against finite differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl import _C
from pydl._tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Function", "backward", "grad", "gradcheck"]


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) or x is None else tuple(x)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradients of the tensors to every leaf's grad; see Tensor.backward."""
    roots = _as_tuple(tensors)
    grads = None if grad_tensors is None else _as_tuple(grad_tensors)
    _C.backward(roots, grads, create_graph if retain_graph is None else retain_graph, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    *,
    only_inputs: bool = True,
    materialize_grads: bool = False,
) -> tuple[Tensor, ...]:
    """The gradients of outputs with respect to inputs; no tensor's grad changes.

    Args:
        outputs: what is differentiated.
        inputs: with respect to what.
        grad_outputs: a gradient for each output; may be left out for outputs of one element.
        retain_graph: keep what backward needs; default the value of create_graph.
        create_graph: record the computation, so that the result can be differentiated again.
        allow_unused: give None for an input that no output depends on, instead of AutogradError; default False.
        only_inputs: accepted and has no effect: other leaves never change.
        materialize_grads: give zeros for such an input; default False.

    >>> import pydl
    >>> x = pydl.asarray(3.0, requires_grad=True)
    >>> (d,) = pydl.autograd.grad(x**3, x, create_graph=True)
    >>> pydl.autograd.grad(d, x)[0].item()
    18.0
    """
    roots, targets = _as_tuple(outputs), _as_tuple(inputs)
    grads = None if grad_outputs is None else _as_tuple(grad_outputs)
    found = _C.grad(roots, targets, grads, create_graph if retain_graph is None else retain_graph, create_graph)
    if materialize_grads:
        if allow_unused is False:
            raise ValueError("[grad] got materialize_grads with allow_unused=False, expected one of them")
        return tuple(
            _C.full(x.shape, 0, x.dtype, x.device) if g is None else g for x, g in zip(targets, found, strict=True)
        )
    if not allow_unused and any(g is None for g in found):
        i = next(i for i, g in enumerate(found) if g is None)
        raise _C.AutogradError(f"[grad] input {i} was not used; pass allow_unused=True for None there")
    return tuple(found)


class Context:
    """What a Function's forward hands to its backward."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self._saved: list[tuple[Tensor | None, int, int]] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward; changing them in place afterwards is an error there."""
        self._saved = [(t, -1 if t is None else t._version, -1) for t in tensors]

    def _loosen(self, outputs: Sequence[Tensor]) -> None:
        # An output that is kept with its history would keep the context that keeps it.
        place = {id(t): i for i, t in enumerate(outputs)}
        self._saved = [
            (t, version, -1) if t is None or id(t) not in place else (t.detach(), version, place[id(t)])
            for t, version, _ in self._saved
        ]

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What save_for_backward kept."""
        for t, version, _ in self._saved:
            if t is not None and t._version != version:
                raise _C.AutogradError(
                    f"[Function] a saved tensor of shape {t.shape} was changed in place after the forward pass"
                )
        return tuple(t if t is None or i < 0 else _C.output_of_running(t, i) for t, _, i in self._saved)


class Function:
    """A function whose gradient is written by hand.

    Subclasses define ``forward(ctx, *args)`` and ``backward(ctx, *grads)``, both static; backward returns one gradient
    (or None) for each argument of forward. Call it with ``apply``.

    >>> import pydl
    >>> class Cube(pydl.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 3.0 * x * x * g
    >>> x = pydl.asarray(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad.item()
    12.0
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the result; nothing inside is recorded."""
        raise NotImplementedError("a Function must define forward")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients of the arguments, given those of the results."""
        raise NotImplementedError("a Function must define backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward, and put backward on the tape where an argument requires a gradient."""
        ctx = Context()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        enabled = _C.is_grad_enabled()
        recording = enabled and any(ctx.needs_input_grad)
        _C.set_grad_enabled(False)
        try:
            result = cls.forward(ctx, *args)
        finally:
            _C.set_grad_enabled(enabled)
        if not recording:
            return result
        single = isinstance(result, Tensor)
        inputs = {id(a) for a in args if isinstance(a, Tensor)}
        # An argument handed back must not become its own ancestor, nor a parameter lose its place as a leaf.
        outputs = [r.detach() if id(r) in inputs or r.requires_grad else r for r in ((result,) if single else result)]
        ctx._loosen(outputs)
        _C.record_python(cls.__name__, list(args), outputs, lambda *grads: cls.backward(ctx, *grads))
        return outputs[0] if single else tuple(outputs)


def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of a function with central finite differences.

    The outputs are weighted with fixed irregular numbers, so that a gradient that only fits the sum is noticed.

    Args:
        function: of the inputs; returns a tensor or several.
        inputs: float64 tensors (those that require a gradient are checked) and other arguments.
        eps: step of the differences.
        atol, rtol: |analytic - numeric| <= atol + rtol * |numeric|.
        raise_exception: AssertionError with the place of the first disagreement, instead of False.
    """
    args = list(_as_tuple(inputs))
    checked = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
    if not checked:
        raise ValueError("[gradcheck] no input requires a gradient")
    for a in checked:
        if a.dtype != _C.float64:
            raise TypeError(f"[gradcheck] inputs must be float64 for differences to mean something, got {a.dtype!r}")

    def outputs() -> list[Tensor]:
        return [t for t in _as_tuple(function(*args)) if isinstance(t, Tensor) and t.is_floating_point()]

    def weights(t: Tensor, k: int) -> Tensor:
        steps = _C.arange(0, t.numel(), 1, _C.float64, t.device)
        return _C.reshape(_C.cos(steps * 1.7 + k) + 1.3, t.shape)

    results = outputs()
    seeds = [weights(t, k) for k, t in enumerate(results)]
    live = [(t, w) for t, w in zip(results, seeds) if t.requires_grad]
    analytic = _C.grad([t for t, _ in live], checked, [w for _, w in live], False, False)

    def objective() -> float:
        enabled = _C.is_grad_enabled()
        _C.set_grad_enabled(False)
        try:
            return float(sum(_C.sum(t * w).item() for t, w in zip(outputs(), seeds)))
        finally:
            _C.set_grad_enabled(enabled)

    for which, (x, g) in enumerate(zip(checked, analytic)):
        if not x.is_contiguous():
            raise ValueError("[gradcheck] inputs must be contiguous")
        flat: Any = x.detach().reshape(-1) if x.device.type != "cpu" else x.detach().numpy().reshape(-1)
        found = (_C.full(x.shape, 0.0, x.dtype) if g is None else g.detach().contiguous()).cpu().numpy().reshape(-1)
        for i in range(len(flat)):
            value = float(flat[i])
            flat[i] = value + eps
            above = objective()
            flat[i] = value - eps
            below = objective()
            flat[i] = value
            numeric = (above - below) / (2 * eps)
            if not abs(found[i] - numeric) <= atol + rtol * abs(numeric):
                if not raise_exception:
                    return False
                raise AssertionError(f"[gradcheck] input {which}, element {i}: analytic {found[i]}, numeric {numeric}")
    return True
