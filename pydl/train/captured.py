"""Steps of a training that are captured as CUDA graphs and replayed: what ``Trainer(capture=True)`` does.

A step has two parts. The device's part, from the batch to the changed weights, is captured. What the host wants to know
of it, the loss, the gradients' norm, the prediction for the metrics, is kept on the device and read some steps later,
or when somebody looks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl.train.recorder import Suspect
from pydl.train.structure import batch_size, leaves, map_leaves
from pydl.train.tracking import StepLogs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pydl import Tensor
    from pydl.train.trainer import Trainer

__all__ = ["CapturedSteps", "check_capturable"]

_MOST_GRAPHS = 4
_MOST_WAITING = 32  # steps whose losses are read together
_MOST_BYTES = 64 << 20  # of predictions that wait for the metrics


class Step:
    """What the device's part of a step gives: tensors, and what Python knows."""

    __slots__ = ("counts", "loss", "norm", "parts", "prediction", "state")

    def __init__(self, prediction: Any, loss: Tensor, parts: dict[str, Tensor], counts: dict[str, Any]) -> None:
        self.prediction, self.loss, self.parts, self.counts = prediction, loss, parts, counts
        self.norm: Tensor | None = None
        self.state: Any = None

    def kept(self, with_prediction: bool) -> Step:
        """A copy that the next replay leaves alone."""
        prediction = map_leaves(_clone, self.prediction) if with_prediction else None
        parts = {name: part.clone() for name, part in self.parts.items()}
        copied = Step(prediction, self.loss.clone(), parts, {k: _clone(v) for k, v in self.counts.items()})
        copied.norm = None if self.norm is None else self.norm.clone()
        return copied


def _clone(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, pydl.Tensor) else value


def check_capturable(trainer: Trainer) -> None:
    """Raise ValueError where the trainer's steps can't be captured, before anything is done."""
    from pydl.train.trainer import Trainer as Base

    cls = type(trainer)
    ours = ("train_step", "compute_loss", "backward", "apply_gradients")
    changed = [name for name in ours if getattr(cls, name) is not getattr(Base, name)]
    if trainer._custom_step is not None or changed:
        raise ValueError(
            f"[Trainer] got capture=True and a step of its own ({', '.join(changed) or 'train_step'}), expected the "
            "trainer's; capture it yourself with pydl.cuda.graph, or leave capture out"
        )
    if trainer.accumulate > 1:
        raise ValueError("[Trainer] got capture=True and accumulate, expected one of them")
    if trainer.optimizer is not None and not trainer.optimizer.capturable:
        raise ValueError(
            f"[Trainer] got capture=True with {type(trainer.optimizer).__name__}, whose step can't be captured; "
            "expected an element-wise optimizer such as 'adam' or 'sgd'"
        )
    parameter = next(iter(trainer.model.parameters()), None)
    if parameter is None or not parameter.is_cuda:
        raise ValueError(
            "[Trainer] got capture=True for a model on the CPU, expected one on a CUDA device: a captured step is a "
            "CUDA graph; use model.to('cuda'), or leave capture out"
        )


class _Graph:
    """A captured step of inputs of certain shapes."""

    def __init__(self, step: Callable[[Any], Step], inputs: Any) -> None:
        self.graph = pydl.cuda.CUDAGraph()
        self.inputs = map_leaves(_clone, inputs)
        with pydl.cuda.graph(self.graph):
            self.result = step(self.inputs)

    def run(self, inputs: Any) -> Step:
        for (_, target), (_, source) in zip(leaves(self.inputs), leaves(inputs), strict=True):
            if isinstance(target, pydl.Tensor):
                target.copy_(source.detach())
        self.graph.replay()
        return self.result


class CapturedSteps:
    """The graphs of a trainer, by the shapes of their inputs, and the steps whose numbers nobody has read yet.

    Inputs whose shapes come for the second time in a row are captured, for four different shapes at most; all others,
    such as an epoch's last batch, are trained on without.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.replays = 0  # steps that were replayed so far
        self._graphs: dict[Hashable, _Graph] = {}
        self._last: Hashable = None
        self._model: Hashable = None
        self._waiting: list[tuple[list[tuple[Step, Any, Any]], float]] = []
        self._bytes = 0

    def begin_epoch(self) -> None:
        """Forget what was captured of a model, or for an optimizer, that has been changed since."""
        now = self._fingerprint()
        if now != self._model:
            self.forget()
            self._model = now

    def forget(self) -> None:
        """Drop the graphs, and their memory."""
        self._graphs.clear()
        self._last = None

    def forget_unread(self) -> None:
        """Drop the numbers that nobody has read, as where a training ends with an error."""
        self._waiting, self._bytes = [], 0

    def _fingerprint(self) -> Hashable:
        trainer = self._trainer
        plain = (bool, int, float, str, tuple, type(None))
        layers = tuple(
            (id(layer), repr([(k, v) for k, v in layer.__dict__.items() if isinstance(v, plain)]))
            for layer in trainer.model.modules()
        )
        params = tuple((id(p), p.requires_grad, p.data_ptr()) for p in trainer.model.parameters())
        state = tuple(id(entry) for entry in trainer.optimizer.state.values())
        return layers, params, state, trainer.clip_norm, trainer.clip_value

    # ---- steps

    def step(self, x: Any, y: Any, weight: Any, state: Any = None) -> Step:
        """Train on a batch, or a window of one."""
        inputs = (x, y, weight, state)
        key = _signature(inputs)
        graph = self._graphs.get(key)
        if graph is None and key == self._last and len(self._graphs) < _MOST_GRAPHS and self._settled():
            graph = self._graphs[key] = _Graph(self._on_device, inputs)
        self._last = key
        if graph is not None:
            self.replays += 1
            return graph.run(inputs)
        return self._on_device(inputs)

    def _settled(self) -> bool:
        return bool(self._trainer.optimizer.is_settled())

    def _on_device(self, inputs: Any) -> Step:
        trainer = self._trainer
        x, y, weight, state = inputs
        trainer.optimizer.zero_grad()
        if trainer.tbptt is None:
            prediction = trainer._call(trainer.model, x)
        else:
            from pydl.train.windows import call_with_state

            prediction, state = call_with_state(trainer, x, state)
        loss, count, parts = trainer.loss_of(prediction, y, weight)
        loss.backward()
        counts = {"loss": count, **{name: terms for name, (_, terms) in parts.items()}}
        detached = map_leaves(lambda t: t.detach() if isinstance(t, pydl.Tensor) else t, prediction)
        step = Step(detached, loss.detach(), {name: part.detach() for name, (part, _) in parts.items()}, counts)
        step.norm = trainer.clip()
        trainer.optimizer.step()
        step.state = map_leaves(lambda t: t.detach() if isinstance(t, pydl.Tensor) else t, state)
        return step

    # ---- what the host wants to know

    def later(self, steps: list[tuple[Step, Any, Any]], samples: float) -> None:
        """Note a batch's steps, each with its targets and weights, to be counted when they are read."""
        self._waiting.append((steps, samples))
        for step, _, _ in steps:
            self._bytes += sum(t.nbytes for _, t in leaves(step.prediction) if isinstance(t, pydl.Tensor))
        if sum(len(known) for known, _ in self._waiting) >= _MOST_WAITING or self._bytes > _MOST_BYTES:
            self.read()

    def read(self) -> None:
        """Count all steps that have not been read; waits for the device.

        Raises (inwardly) where a loss or norm is not finite and ``check_finite`` is on.
        """
        if not self._waiting:
            return
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for graph in self._graphs.values():
            graph.graph.check()
        trainer = self._trainer
        numbers = iter(_read([step for steps, _ in waiting for step, _, _ in steps]))
        for steps, samples in waiting:
            logs = []
            for step, y, weight in steps:
                found, norm = next(numbers)
                if trainer.check_finite and not math.isfinite(found["loss"]):
                    raise Suspect("loss", found["loss"], late=True)
                if norm is not None:
                    trainer._gradient_norm = norm
                    if trainer.check_finite and not math.isfinite(norm):
                        raise Suspect("gradient norm", norm, late=True)
                if trainer.metrics:
                    trainer.metrics.update(step.prediction, y, weight)
                logs.append(found)
            trainer.tracker.add(_joined(logs), samples)


def _joined(logs: list[StepLogs]) -> StepLogs:
    if len(logs) == 1:
        return logs[0]
    from pydl.train.windows import mean_of

    return mean_of(logs)


def _read(steps: list[Step]) -> list[tuple[StepLogs, float | None]]:
    """The numbers of steps, which come over in one copy for each dtype."""
    tensors: list[Tensor] = []
    for step in steps:
        tensors += [step.loss, *step.parts.values()]
        tensors += [count for count in step.counts.values() if isinstance(count, pydl.Tensor)]
        if step.norm is not None:
            tensors.append(step.norm)
    values: dict[int, float] = {}
    for kind in {(t.dtype, t.is_cuda) for t in tensors}:
        same = [t for t in tensors if (t.dtype, t.is_cuda) == kind]
        found = pydl.stack([t.reshape(()) for t in same]).tolist()
        values.update(zip(map(id, same), found, strict=True))
    out = []
    for step in steps:
        logs = StepLogs(loss=values[id(step.loss)])
        logs.update({name: values[id(part)] for name, part in step.parts.items()})
        logs.counts = {k: float(values[id(v)] if isinstance(v, pydl.Tensor) else v) for k, v in step.counts.items()}
        out.append((logs, None if step.norm is None else values[id(step.norm)]))
    return out


def _signature(inputs: Any) -> Hashable:
    found: list[Hashable] = []
    for path, leaf in leaves(inputs):
        is_tensor = isinstance(leaf, pydl.Tensor)
        found.append((path, tuple(leaf.shape), str(leaf.dtype)) if is_tensor else (path, repr(leaf)))
    return tuple(found)


def train_captured(trainer: Trainer, batch: Any) -> None:
    """One batch, or its windows; its numbers are counted later."""
    from pydl.train.structure import as_batch
    from pydl.train.windows import windows

    x, y, weight = as_batch(batch)
    captured = trainer.captured
    keep = bool(trainer.metrics)
    done: list[tuple[Step, Any, Any]] = []
    if trainer.tbptt is None:
        result = captured.step(x, y, weight)
        done.append((result.kept(keep), y, weight))
        trainer._after_step()
    else:
        for some_x, some_y, some_weight in windows(trainer, x, y, weight):
            result = captured.step(some_x, some_y, some_weight, trainer.state)
            done.append((result.kept(keep), some_y, some_weight))
            trainer.state = result.state
            trainer._after_step()
    captured.later(done, float(batch_size(x)))
