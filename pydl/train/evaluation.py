"""Evaluation: what a trainer does with a model that it does not change, evaluate and predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import _C
from pydl._interop import from_numpy, to_numpy
from pydl.callbacks.logs import call_with_logs
from pydl.train.inputs import make_loader
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
        callbacks: Iterable[Any] = (),
        return_dict: bool = True,
    ) -> Any:
        """Loss and metrics on data, in evaluation mode and without gradients.

        Means are over all samples (or terms, or weights), whatever the batches. Arguments as for :meth:`fit`.

        Returns:
            name -> number; with ``return_dict=False`` a list of the numbers, as in Keras. The model is left in
            evaluation mode.

        Raises:
            ValueError, TypeError: as :meth:`fit`.
        """
        from pydl.callbacks import CallbackList

        loader = self._loader("evaluate", x, y, sample_weight, batch_size)
        self._check_labels("evaluate", loader)
        hooks = CallbackList(callbacks, self, {}).hooks
        logs = self.run_test(loader, hooks)
        return logs if return_dict else list(logs.values())

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
        if not tracker.sums and not logs:
            raise ValueError("[evaluate] the loader gave no batches, expected at least one (x, y)")
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

    # ---- prediction

    def predict(self, x: Any, batch_size: int = 256, *, callbacks: Iterable[Any] = ()) -> Any:
        """The model's outputs for all rows, in evaluation mode and without gradients.

        Args:
            x: as for :meth:`fit`; of a dataset's or a loader's batches (x, y) only x is used.
            batch_size: rows at a time; default 256.

        Returns:
            A NumPy array as in Keras, (N, ...), or the outputs' tuple, list or dict of arrays. The model is left in
            evaluation mode.

        Raises:
            ValueError, TypeError: as :meth:`fit`; no rows.
        """
        if self.model.training:
            self.model.eval()
        if isinstance(x, np.ndarray):
            if 0 < len(x) <= batch_size and x.dtype == np.float32 and not callbacks:
                return self._predict_once(from_numpy(x))
        elif isinstance(x, pydl.Tensor) and not callbacks and 0 < x.shape[0] <= batch_size:
            return self._predict_once(x)
        from pydl.callbacks import CallbackList

        loader = self._loader("predict", x, None, None, batch_size)
        hooks = CallbackList(callbacks, self, {}).hooks
        if hooks["on_predict_begin"] is not None:
            hooks["on_predict_begin"]({})
        parts = [self._predict_once(as_batch(batch)[0]) for batch in loader]
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


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, np.ndarray):
        return first if len(parts) == 1 else np.concatenate(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        return type(first)(_joined([part[i] for part in parts]) for i in range(len(first)))
    return parts
