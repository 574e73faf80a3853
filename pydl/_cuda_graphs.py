"""CUDA graphs: the calls of a step, recorded once and made again without Python. Offered by :mod:`pydl.cuda`."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

from pydl import _C

if TYPE_CHECKING:
    from types import TracebackType

    from pydl import Tensor

__all__ = ["CUDAGraph", "graph", "is_current_stream_capturing", "note_step"]

_here = threading.local()


class CUDAGraph:
    """What a step does on a CUDA device, to be done again by :meth:`replay` at the price of one launch.

    Replays read and write the tensors of the capture: give a step new data by copying it into the tensors that it
    reads (``x.copy_(...)``), and read its results where they were then. What Python computes is not done again, so
    its numbers are frozen, with two exceptions: random numbers are new ones in each replay, those that the step would
    have drawn, and optimizers whose ``step()`` was captured count on and take the present learning rate.

    During a capture nothing may wait for the device (``item()``, ``tolist()``, printing, ``if tensor:``, indexing by a
    mask) or bring numbers to it (``to("cuda")``, ``asarray(..., device="cuda")``): that raises ValueError and ends
    the capture, and all goes on as before it. Indices and class numbers are checked on the device: one out of range
    counts for nothing, and :meth:`check` raises IndexError for it later. Whatever is made by a first step (the states
    of optimizers, a layer's weights) must be there before: take a step without capture first.

    Args:
        device: the device; default "cuda".

    >>> import pydl
    >>> if pydl.cuda.is_available():
    ...     x = pydl.ones((3,), device="cuda")
    ...     g = pydl.cuda.CUDAGraph()
    ...     with pydl.cuda.graph(g):
    ...         y = x * 2
    ...     _ = x.copy_(pydl.asarray([1.0, 2.0, 3.0]))
    ...     g.replay()
    ...     assert y.tolist() == [2.0, 4.0, 6.0]
    """

    def __init__(self, device: Any = "cuda") -> None:
        self._device = device
        self._graph: Any = None
        self._optimizers: list[Any] = []
        self._before: list[tuple[Any, dict[Tensor, dict[str, Any]]]] = []  # optimizers and their states
        self._grads: list[tuple[Tensor, Tensor]] = []
        self._kept: list[Any] = []  # generators

    def capture_begin(self) -> None:
        """Record from here on, for this thread; ``with pydl.cuda.graph(g):`` does it and ends it."""
        from pydl.cuda import _load

        if self._graph is not None:
            raise ValueError("[graph] was captured before; call reset(), or make a new CUDAGraph")
        _load(str(self._device))
        gc.collect()  # what is collected during the capture would be kept as long as the graph
        made = _C.CapturedGraph(self._device)
        made.begin()
        self._graph = made
        _here.graph = self

    def capture_end(self) -> None:
        """Record no more. Nothing has run yet: :meth:`replay` does it."""
        if self._graph is None:
            raise ValueError("[graph] got the end of a capture that has not begun")
        _here.graph = None
        self._grads = [
            (param, param.grad)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for param in group["params"]
            if param.grad is not None
        ]
        if not self._go_back():
            names = ", ".join(type(optimizer).__name__ for optimizer in self._optimizers)
            self._give_up()
            raise ValueError(
                f"[graph] {names} made its state in the captured step, as each replay would do anew; take a step "
                "without capture first"
            )
        try:
            self._graph.end()
        except BaseException:
            self.reset()
            raise
        self._kept = self._graph.generators

    def _give_up(self) -> None:
        _here.graph = None
        if self._graph is not None:
            self._graph.abandon()
        self._go_back()
        for param, grad in self._grads_now():
            if grad is not None:
                param.grad = None  # of a step that has not run
        self.reset()

    def _grads_now(self) -> list[tuple[Tensor, Any]]:
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        return [(param, param.grad) for group in groups for param in group["params"]]

    def _go_back(self) -> bool:
        """Make the optimizers' states those before the capture; whether there were no new tensors among them."""
        same = True
        for optimizer, before in self._before:
            for param, entry in list(optimizer.state.items()):
                known = before.get(param, {})
                same = same and all(key in known for key, value in entry.items() if hasattr(value, "device"))
                entry.clear()
                entry.update(known)
                if param not in before:
                    del optimizer.state[param]
        self._before = []
        return same

    def replay(self) -> None:
        """Do all of it again, behind what the device was given before; does not wait."""
        if self._graph is None or not self._graph.captured:
            raise ValueError("[graph] has nothing to replay; capture a step first: with pydl.cuda.graph(g): ...")
        self._graph.renew()
        try:
            for param, grad in self._grads:
                if param.grad is not grad:
                    param.grad = grad
            for optimizer in self._optimizers:
                optimizer.step()
            self._graph.launch()
        finally:
            self._graph.stop_renewing()

    def check(self) -> None:
        """Raise IndexError where an index or class number of a replay was out of range; waits for the device."""
        if self._graph is not None:
            self._graph.check()

    def reset(self) -> None:
        """Forget what was captured, and give its memory back once none of its tensors is left."""
        self._graph = None
        self._optimizers, self._before, self._grads, self._kept = [], [], [], []


class graph:  # noqa: N801 - PyTorch's name
    """Captures what is called in its scope: ``with pydl.cuda.graph(g): ...``.

    Args:
        cuda_graph: a new :class:`CUDAGraph`.

    Raises:
        ValueError: the step does something that cannot be captured; the message names the operation.
    """

    def __init__(self, cuda_graph: CUDAGraph) -> None:
        if not isinstance(cuda_graph, CUDAGraph):
            raise TypeError(f"[graph] got a {type(cuda_graph).__name__}, expected a pydl.cuda.CUDAGraph")
        self._target = cuda_graph

    def __enter__(self) -> CUDAGraph:
        self._target.capture_begin()
        return self._target

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._target.capture_end()
        else:
            self._target._give_up()


def is_current_stream_capturing() -> bool:
    """Whether this thread records a graph."""
    return bool(_C.is_capturing())


def note_step(optimizer: Any, closure: Any) -> None:
    """Called by an optimizer's step while this thread captures: replays count it on."""
    name = type(optimizer).__name__
    if not optimizer.capturable or closure is not None:
        raise ValueError(
            f"[{name}] its step can't be captured: what it computes in Python would be the same in every replay; "
            "take one of the element-wise optimizers (SGD, Adam, AdamW, RMSprop, ...), or do without capture"
        )
    target: CUDAGraph | None = getattr(_here, "graph", None)
    if target is None:
        return
    if any(known is optimizer for known in target._optimizers):
        raise ValueError(f"[{name}] steps twice in one capture, expected once; capture one step")
    target._optimizers.append(optimizer)
    target._before.append((optimizer, {param: dict(entry) for param, entry in optimizer.state.items()}))
