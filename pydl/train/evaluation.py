"""Evaluation: what a trainer does with a model that it does not change, evaluate and predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import _C
from pydl._interop import from_numpy, to_numpy
from pydl.callbacks.logs import call_with_logs
from pydl.train.arguments import whole_number
from pydl.train.inputs import first_batches, make_loader
from pydl.train.structure import as_batch, map_leaves
from pydl.train.structure import batch_size as samples_in
from pydl.train.tracking import MetricSet, StepLogs, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydl.nn.module import Module
    from pydl.train.building import Penalties
    from pydl.train.fitting import Fitting
    from pydl.train.objective import Objective

__all__ = ["Evaluation"]


class Evaluation:
    """The part of :class:`Trainer` that evaluates and predicts."""

    model: Module
    objective: Objective | None
    metrics: MetricSet
    penalties: Penalties
    check_finite: bool
    seed: int
    tbptt: int | None
    _call: Callable[..., Any]
    _fitting: Fitting | None

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 256,
        *,
        sample_weight: Any = None,
        callbacks: Any = (),
        verbose: Any = 0,
        steps: int | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Loss and metrics on data, in evaluation mode and without gradients.

        Means are over all samples (or terms, or weights), whatever the batches. Arguments as for :meth:`fit`.

        Args:
            verbose: ``"auto"``, 0 silent (default), 1 a bar, 2 a line.
            steps: how many batches; default all.

        Returns:
            name -> number; with ``return_dict=False``, as in Keras, a list of the numbers, or the number if there is
            one. The model is left in evaluation mode.

        Raises:
            ValueError, TypeError: as :meth:`fit`.
        """
        steps = whole_number("evaluate", "steps", steps, 1, none=True)
        loader = self._loader("evaluate", x, y, sample_weight, batch_size)
        self._check_labels("evaluate", loader)
        hooks = self._hooks(callbacks, verbose, "test_steps", steps, loader)
        logs = self.run_test(first_batches(loader, steps), hooks)
        if return_dict:
            return logs
        return next(iter(logs.values())) if len(logs) == 1 else list(logs.values())

    def run_test(self, batches: Iterable[Any], hooks: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate on batches; the means."""
        self.model.eval()
        tracker, metrics = Tracker(), self.metrics
        kept = metrics.state_dict() if metrics and self._fitting is not None else None
        metrics.reset()
        if hooks["on_test_begin"] is not None:
            hooks["on_test_begin"]({})
        begin, end = hooks["on_test_batch_begin"], hooks["on_test_batch_end"]
        enabled = _C.is_grad_enabled()
        _C.set_grad_enabled(False)
        try:
            for i, batch in enumerate(batches):
                if begin is not None:
                    begin(i, {})
                tracker.add(self.test_step(batch), float(samples_in(batch)))
                if end is not None:
                    call_with_logs(end, i, lambda: {**tracker.results(), **metrics.results()})
                if self._fitting is not None and self._fitting.interrupted:
                    break
            logs = {**tracker.results(), **metrics.results()}
        finally:
            _C.set_grad_enabled(enabled)
            if kept is not None:
                metrics.load_state_dict(kept)
        if not logs:
            what = "the loader gave no batches, expected at least one (x, y)"
            if self.objective is None:
                what = "there is no loss and no metric; give the Trainer some, or override test_step"
            raise ValueError(f"[evaluate] {what}")
        if hooks["on_test_end"] is not None:
            hooks["on_test_end"](logs)
        return logs

    def test_step(self, batch: Any) -> Mapping[str, float]:
        """Forward and loss of one batch, and the metrics' update."""
        place = self._placing()
        x, y, weight = as_batch(batch if place is None else place(batch))
        prediction = self.predict_step(x)
        logs = StepLogs()
        if self.objective is not None:
            loss, count, parts = self.objective(prediction, y, weight)
            penalty = self.penalties()
            logs["loss"] = loss.item() + (0.0 if penalty is None else penalty.item())
            logs.counts["loss"] = count
            for name, (part, terms) in parts.items():
                logs[name] = part.item()
                logs.counts[name] = terms
        if self.metrics:
            self.metrics.update(prediction, y, weight)
        return logs

    def _hooks(self, callbacks: Any, verbose: Any, name: str, steps: int | None, loader: Any) -> Mapping[str, Any]:
        """The callbacks' hooks, a bar among them if wanted; the number of batches goes by ``name``."""
        from pydl.callbacks import CallbackList, ProgressBar

        given = CallbackList(callbacks).callbacks
        bars = [] if verbose in (0, False) else [ProgressBar(verbose)]
        total = steps or (len(loader) if hasattr(loader, "dataset") else None)
        return CallbackList([*given, *bars], self, {name: total, "verbose": verbose}).hooks

    # ---- prediction

    def predict(
        self, x: Any, batch_size: int = 256, *, callbacks: Any = (), verbose: Any = 0, steps: int | None = None
    ) -> Any:
        """The model's outputs for all rows, in evaluation mode and without gradients.

        Args:
            x: as for :meth:`fit`; of a dataset's or a loader's batches (x, y) only x is used.
            batch_size: rows at a time; default 256.
            verbose: ``"auto"``, 0 silent (default), 1 a bar, 2 a line.
            steps: how many batches; default all.

        Returns:
            A NumPy array as in Keras, (N, ...), or the outputs' tuple, list or dict of arrays. The model is left in
            evaluation mode.

        Raises:
            ValueError, TypeError: as :meth:`fit`; no rows.
        """
        if self.model.training:
            self.model.eval()
        if not (callbacks or verbose) and steps is None:
            if isinstance(x, np.ndarray):
                if x.ndim > 1 and 0 < len(x) <= batch_size and x.dtype == np.float32:
                    return self._predict_once(from_numpy(x))
            elif isinstance(x, pydl.Tensor) and x.ndim > 1 and 0 < x.shape[0] <= batch_size:
                return self._predict_once(x)
        steps = whole_number("predict", "steps", steps, 1, none=True)
        loader = self._loader("predict", x, None, None, batch_size)
        hooks = self._hooks(callbacks, verbose, "steps", steps, loader)
        if hooks["on_predict_begin"] is not None:
            hooks["on_predict_begin"]({})
        begin, end = hooks["on_predict_batch_begin"], hooks["on_predict_batch_end"]
        parts = []
        for i, batch in enumerate(first_batches(loader, steps)):
            if begin is not None:
                begin(i, {})
            inputs = as_batch(batch)[0]
            try:
                parts.append(self._predict_once(inputs))
            except TypeError as error:
                if isinstance(x, list) and "positional argument" in str(error):
                    hint = f"x is a list of {len(x)} arrays, which are as many inputs; numpy.stack(x) makes one of rows"
                    error.args = (f"{error}\n  in [predict]: {hint}",)
                raise
            _check_rows(inputs, parts[-1])
            if end is not None:
                end(i, {"outputs": parts[-1]})
        if not parts:
            raise ValueError("[predict] got no batches, expected at least one row")
        if hooks["on_predict_end"] is not None:
            hooks["on_predict_end"]({})
        return _joined(parts)

    def _predict_once(self, x: Any) -> Any:
        enabled = _C.is_grad_enabled()
        place = self._placing()
        if place is not None:
            x = place(x)
        _C.set_grad_enabled(False)
        try:
            prediction = self.predict_step(x)
        finally:
            _C.set_grad_enabled(enabled)
        if isinstance(prediction, pydl.Tensor):
            return to_numpy(prediction.cpu())
        return map_leaves(lambda t: t.cpu().numpy(), prediction)

    def predict_step(self, x: Any) -> Any:
        """The model's output for one batch of inputs."""
        if self.tbptt is not None:
            return self.model(x, None)[0]
        return self._call(self.model, x)

    # ---- helpers

    _some_parameter: pydl.Tensor | None = None  # which tells where the model is

    def _placing(self) -> Callable[[Any], Any] | None:
        """What moves a batch to where the model is; None on the CPU, where batches come from."""
        parameter = self._some_parameter
        if parameter is None:
            parameter = self._some_parameter = next(iter(self.model.parameters()), None)
        if parameter is None or parameter.is_cpu:
            return None
        device = parameter.device
        return lambda batch: map_leaves(lambda t: t.to(device) if isinstance(t, pydl.Tensor) else t, batch)

    def _dtype(self) -> Any:
        for parameter in self.model.parameters():
            if parameter.dtype.is_floating_point:
                return parameter.dtype
        return None

    def _loader(self, name: str, x: Any, y: Any, weight: Any, batch_size: int, **options: Any) -> Any:
        classes = self.objective is not None and self.objective.is_classification
        return make_loader(
            name, x, y, weight, batch_size=batch_size, dtype=self._dtype(), classes=classes, seed=self.seed,
            check_finite=self.check_finite, **options,
        )  # fmt: skip

    def _check_labels(self, name: str, loader: Any) -> None:
        """A trial with two samples, in evaluation mode: shapes are known then, and labels can be checked."""
        from pydl.train.building import trial

        trial(self, name, loader)


def _check_rows(x: Any, prediction: Any) -> None:
    """One sample without an axis for samples looks like many samples of one number each."""
    alone = isinstance(x, pydl.Tensor) and x.ndim == 1 and x.dtype.is_floating_point
    if alone and isinstance(prediction, np.ndarray) and prediction.shape[:1] != tuple(x.shape):
        raise ValueError(
            f"[predict] got x of shape {tuple(x.shape)}, {x.shape[0]} rows of one number, and the model gave an output "
            f"of shape {prediction.shape}; expected (N, features): for one sample give x[None]"
        )


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, np.ndarray):
        return first if len(parts) == 1 else np.concatenate(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(_joined([part[i] for part in parts]) for i in range(len(first)))
    return parts
