"""GradientHealth: how large activations and gradients are, layer by layer, while a training goes on."""

from __future__ import annotations

import math
import warnings
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pydl
from pydl.callbacks.base import Callback
from pydl.train.arguments import whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from pydl import Tensor
    from pydl.callbacks.base import Logs
    from pydl.train.charts import Chart

__all__ = ["GradientHealth"]

_SILENT = ("Dropout", "Flatten", "Unflatten", "Identity")  # what passes on what it gets


class GradientHealth(Callback):
    """Records each layer's activations and gradients every so many steps, and warns where they vanish or explode.

    Hooks sit in the model during the recorded steps only; the others cost nothing but a call. Gradients are those
    before ``clip_norm``, and with ``accumulate`` those of the whole step.

    Args:
        every: steps from one record to the next, beginning with the first; default 50.
        layers: names of modules, with ``*`` and ``?``; default all that have parameters of their own or no
            modules below them.
        vanishing: a gradient norm below this is a warning, if another layer's is a thousand times as large; default
            1e-6.
        exploding: a gradient norm above this is a warning, and so is what is not finite; default 1e3.
        verbose: 1 (default) gives each warning once for each layer, as a ``UserWarning``; 0 only collects them.

    Attributes:
        steps: the recorded ones: how many optimizer steps were done before.
        activations: layer -> root mean square of its output at each of these.
        gradients: layer -> norm ‖∂L/∂w‖ of all its own parameters' gradients together.
        warnings: texts.

    Raises:
        ValueError: a pattern matches no layer.

    >>> from pydl.callbacks import GradientHealth
    >>> health = GradientHealth(every=100)

    After ``fit(..., callbacks=[health])``, ``health.plot("health.svg")`` draws all of it.
    """

    def __init__(
        self,
        every: int = 50,
        layers: str | Sequence[str] | None = None,
        vanishing: float = 1e-6,
        exploding: float = 1e3,
        verbose: int = 1,
    ) -> None:
        self.every = whole_number("GradientHealth", "every", every, 1)
        self.patterns = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
        self.vanishing, self.exploding = float(vanishing), float(exploding)
        self.verbose = verbose
        self._resumed = False
        self._handles: list[Any] = []
        self._step_hook: Any = None
        self._reset()

    def _reset(self) -> None:
        self.steps: list[int] = []
        self.activations: dict[str, list[float]] = {}
        self.gradients: dict[str, list[float]] = {}
        self._titles: dict[str, str] = {}  # layer -> its name in pictures
        self.warnings: list[str] = []
        self._warned: set[tuple[str, str]] = set()
        self._batches = 0
        self._now: dict[str, float] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Find the layers."""
        if not self._resumed:
            self._reset()
        self._resumed = False
        self._layers = self._find()
        for name, module in self._layers.items():
            kind = type(module).__name__
            self._titles[name] = f"{name} {kind}" if name.split(".")[-1].isdigit() else name
        self._step_hook = self.trainer.optimizer.register_step_pre_hook(self._at_step)

    def _find(self) -> dict[str, Any]:
        found = {name or type(self.model).__name__: module for name, module in self.model.named_modules()}
        if self.patterns is None:
            return {
                name: module
                for name, module in found.items()
                if (not list(module.children()) or list(module.parameters(recurse=False)))
                and not type(module).__name__.startswith(_SILENT)
            }
        chosen = {}
        for pattern in self.patterns:
            matching = {name: module for name, module in found.items() if fnmatchcase(name, pattern)}
            if not matching:
                raise ValueError(f"[GradientHealth] got {pattern!r}, which matches none of {', '.join(found)}")
            chosen.update(matching)
        return chosen

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Put hooks into the model when it is time to."""
        if self._batches % self.every == 0 and not self._handles:
            for name, module in self._layers.items():
                self._handles.append(module.register_forward_hook(self._listener(name)))
        self._batches += 1

    def _listener(self, name: str) -> Any:
        def listen(module: Any, args: Any, output: Any) -> None:
            tensor = _first_tensor(output)
            if tensor is not None and module.training:
                size = math.prod(tensor.shape)
                self._now[name] = _norm(tensor) / math.sqrt(size) if size else 0.0

        return listen

    def _at_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._handles:
            return
        self._remove()
        undo = self._clipped_by()
        for name, module in self._layers.items():
            own = [p.grad for p in module.parameters(recurse=self.patterns is not None) if p.grad is not None]
            self._add(self.activations, name, self._now.get(name, math.nan))
            if own:
                self._add(self.gradients, name, undo * math.sqrt(sum(_norm(g) ** 2 for g in own)))
        self.steps.append(self.trainer.step)
        self._now = {}
        self._check()

    def _add(self, records: dict[str, list[float]], name: str, value: float) -> None:
        values = records.setdefault(name, [])
        values += [math.nan] * (len(self.steps) - len(values))
        values.append(value)

    def _clipped_by(self) -> float:
        bound, norm = getattr(self.trainer, "clip_norm", None), getattr(self.trainer, "gradient_norm", None)
        return norm / bound if bound and norm and math.isfinite(norm) and norm > bound else 1.0

    def _check(self) -> None:
        at = len(self.steps)
        norms = {name: values[-1] for name, values in self.gradients.items() if len(values) == at}
        largest = max((norm for norm in norms.values() if math.isfinite(norm)), default=0.0)
        for name, norm in norms.items():
            if not math.isfinite(norm):
                self._warn(name, "not finite", f"its gradient is not finite ({norm})")
            elif norm > self.exploding:
                self._warn(name, "exploding", f"its gradient explodes: norm {norm:.3g}; clip_norm bounds it")
            elif norm < self.vanishing and largest >= 1e3 * max(norm, 1e-300):
                self._warn(name, "vanishing", f"its gradient vanishes: norm {norm:.3g}, {largest:.3g} in another layer")
        for name, values in self.activations.items():
            if len(values) == at and math.isinf(values[-1]):
                self._warn(name, "not finite", "its output is not finite")

    def _warn(self, layer: str, kind: str, what: str) -> None:
        if (layer, kind) in self._warned:
            return
        self._warned.add((layer, kind))
        text = f"[GradientHealth] step {self.steps[-1]}, layer {layer!r}: {what}"
        self.warnings.append(text)
        if self.verbose:
            warnings.warn(text, UserWarning, stacklevel=2)

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Take all hooks off."""
        self._remove()
        if self._step_hook is not None:
            self._step_hook.remove()
            self._step_hook = None

    def plot(self, path: str | os.PathLike[str] | None = None) -> Chart:
        """Activations and gradients by depth (at the first, middle and last record) and over the steps.

        Args:
            path: where to write it; ``.svg`` needs nothing, ``.png`` and ``.pdf`` need matplotlib. Default nowhere.

        Raises:
            ValueError: nothing was recorded.
            ImportError: the ending of ``path`` needs matplotlib, which is missing.
        """
        from pydl.train.charts import Chart

        if not self.steps:
            raise ValueError("[GradientHealth.plot] nothing was recorded yet; give it to fit(callbacks=[...])")
        panels = []
        for records, title, label in (
            (self.activations, "Activations", "root mean square of outputs"),
            (self.gradients, "Gradients", "‖∂L/∂w‖"),
        ):
            panels += [self._by_depth(records, title, label), self._by_step(records, title, label)]
        chart = Chart([panels[0], panels[2], panels[1], panels[3]])
        if path is not None:
            chart.save(path)
        return chart

    def _by_depth(self, records: dict[str, list[float]], title: str, label: str) -> Any:
        from pydl.train.charts import BLUE, GREY, ORANGE, Curve, Panel

        moments = dict.fromkeys((0, len(self.steps) // 2, len(self.steps) - 1))
        names = list(records)
        curves = [
            Curve(f"step {self.steps[moment]:,}", range(len(names)), [records[name][moment] for name in names], color)
            for moment, color in zip(moments, (GREY, BLUE, ORANGE) if len(moments) == 3 else (BLUE, ORANGE))
        ]
        return Panel(
            f"{title} by depth", "layer", label, curves, log_y=True, x_names=[self._titles[name] for name in names]
        )

    def _by_step(self, records: dict[str, list[float]], title: str, label: str) -> Any:
        from pydl.train.charts import COLORS, Curve, Panel

        names = list(records)
        if len(names) > len(COLORS):  # as many as can be told apart, evenly over the depth
            last = len(names) - 1
            names = [names[round(i * last / (len(COLORS) - 1))] for i in range(len(COLORS))]
        curves = [Curve(self._titles[name], self.steps, records[name], color) for name, color in zip(names, COLORS)]
        return Panel(f"{title} over the training", "step", label, curves, log_y=True, integer_x=True)

    def state_dict(self) -> dict[str, Any]:
        """The records."""
        return {
            "steps": list(self.steps),
            "activations": {name: list(values) for name, values in self.activations.items()},
            "gradients": {name: list(values) for name, values in self.gradients.items()},
            "titles": dict(self._titles),
            "warnings": list(self.warnings),
            "warned": sorted(map(list, self._warned)),
            "batches": self._batches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on recording."""
        self._reset()
        self.steps, self.warnings = list(state["steps"]), list(state["warnings"])
        self._titles = dict(state["titles"])
        self.activations = {name: list(values) for name, values in state["activations"].items()}
        self.gradients = {name: list(values) for name, values in state["gradients"].items()}
        self._warned = {(layer, kind) for layer, kind in state["warned"]}
        self._batches = state["batches"]
        self._resumed = True


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, pydl.Tensor):
        return output if output.dtype.is_floating_point else None
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)


def _norm(tensor: Tensor) -> float:
    """In float64, so that neither 1e-30 nor 1e30 is lost."""
    return float(pydl.norm(tensor.detach().astype(pydl.float64)).item())
