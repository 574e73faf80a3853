"""Numbers that are not finite: what fit raises about them, and a mode in which every op and layer is watched."""

from __future__ import annotations

import bisect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydl
from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl import Tensor
    from pydl.nn import Module

__all__ = ["AnomalyError", "NotFinite", "detect_anomaly"]


class NotFinite(FloatingPointError):  # noqa: N818 - it says what was found
    """A loss, gradient or weight became NaN or infinite while training.

    The model, the optimizer and everything else are as they were before the step in which it began.

    Attributes:
        epoch, step: where it began, both from 0; ``step`` counts optimizer steps, as ``Trainer.step`` does.
        layer: the dotted name of the module where it appeared first, ``""`` for the model itself or outside of all
            modules, None where the repetition of the step did not show it again.
        tensor: ``"input"``, ``"target"``, ``"parameter NAME"``, ``"activation"``, ``"gradient of NAME"``,
            ``"gradient"`` or ``"loss"``; None as above.

    >>> error = NotFinite(1, 40, "2", "activation", "the loss is nan")
    >>> print(error)
    [fit] the loss is nan: it began in epoch 1, step 40 (from 0), in layer '2', in its activation
    """

    def __init__(self, epoch: int, step: int, layer: str | None, tensor: str | None, found: str) -> None:
        self.epoch, self.step, self.layer, self.tensor = epoch, step, layer, tensor
        where = f"it began in epoch {epoch}, step {step} (from 0)"
        if tensor is None:
            where += "; when the step was done again it did not come back"
        elif layer:
            where += f", in layer {layer!r}, in its {tensor}"
        else:
            where += f", in the {tensor}"
        super().__init__(f"[fit] {found}: {where}")


class AnomalyError(FloatingPointError, RuntimeError):
    """A gradient became NaN within :func:`detect_anomaly`.

    Attributes:
        op: the name of the op whose gradient it is, such as ``"sqrt"``; the class's name for an ``autograd.Function``.
        layer: the dotted name of the module in whose forward the op ran, ``""`` for the model itself or none.
    """

    def __init__(self, message: str, op: str, layer: str) -> None:
        super().__init__(message)
        self.op, self.layer = op, layer


@contextmanager
def detect_anomaly(check_nan: bool = True, *, check_inf: bool = False) -> Iterator[None]:
    """Within the block, a backward pass raises at the first op that makes a NaN, and names it and its layer.

    Made for debugging: every gradient is looked at, which takes about as long again. It holds for backward passes of
    the calling thread, through ops that ran within the block. ``fit`` finds such numbers by itself; see
    :class:`NotFinite`.

    Args:
        check_nan: look for NaN; default True, as in PyTorch.
        check_inf: look for infinities too; default False.

    Raises:
        AnomalyError: from ``backward``; a ``FloatingPointError`` and, as in PyTorch, a ``RuntimeError``.

    >>> import pydl
    >>> x = pydl.asarray([0.0, 1.0], requires_grad=True)
    >>> with pydl.detect_anomaly():
    ...     (pydl.sqrt(x) * 0.0).sum().backward()
    Traceback (most recent call last):
    pydl.train.anomaly.AnomalyError: [backward] op 'sqrt' made a gradient with NaN for its input 0 of shape (2,)
    """
    calls = _Calls()

    def look(op: str, number: int, place: int, gradient: Tensor) -> None:
        if not gradient.dtype.is_floating_point or gradient.size == 0:
            return
        found = "NaN" if check_nan and bool(pydl.isnan(gradient).any()) else ""
        if not found and check_inf and bool(pydl.isinf(gradient).any()):
            found = "infinity"
        if found:
            layer = calls.at(number)
            where = f"; it ran in layer {layer!r}" if layer else ""
            raise AnomalyError(
                f"[backward] op {op!r} made a gradient with {found} for its input {place} of shape "
                f"{tuple(gradient.shape)}{where}",
                op, layer,
            )  # fmt: skip

    from pydl.nn.module import Module

    before = Module.__call__
    _C.set_observer(look)
    Module.__call__ = calls.wrap(before)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Module.__call__ = before  # type: ignore[method-assign]
        _C.set_observer(None)


class _Calls:
    """Which module's forward was running when an op was recorded, by the op's number."""

    def __init__(self) -> None:
        self._starts: list[int] = [0]
        self._names: list[str] = [""]
        self._running: list[str] = []
        self._paths: dict[int, str] = {}

    def wrap(self, call: Any) -> Any:
        """Module.__call__ that takes notes."""

        def noted(module: Module, *args: Any, **kwargs: Any) -> Any:
            outermost = not self._running
            if outermost:
                self._paths = {id(below): name for name, below in module.named_modules()}
            self._running.append(self._paths.get(id(module), type(module).__name__))
            self._note()
            try:
                return call(module, *args, **kwargs)
            finally:
                self._running.pop()
                self._note()

        return noted

    def _note(self) -> None:
        self._starts.append(_C.next_sequence())
        self._names.append(self._running[-1] if self._running else "")

    def at(self, number: int) -> str:
        """The innermost module that was running."""
        return self._names[bisect.bisect_right(self._starts, number) - 1]
