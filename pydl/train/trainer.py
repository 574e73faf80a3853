"""Trainer: fit -> run_epoch -> train_step, evaluate and predict for any model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pydl
from pydl import constraints
from pydl.callbacks.logs import call_with_logs
from pydl.nn.arguments import explain_constructor
from pydl.nn.module import Module
from pydl.train.arguments import real_number, whole_number
from pydl.train.building import Penalties, make_optimizer, make_schedulers
from pydl.train.evaluation import Evaluation
from pydl.train.objective import ClassWeights, Objective
from pydl.train.recorder import Suspect
from pydl.train.structure import as_batch, call_model, map_leaves
from pydl.train.structure import batch_size as samples_in
from pydl.train.tracking import MetricSet, StepLogs, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydl import Tensor
    from pydl.train.captured import CapturedSteps
    from pydl.train.fitting import Fitting
    from pydl.train.history import History

__all__ = ["Trainer"]


class Trainer(Evaluation):
    """Trains, evaluates and asks a model, in Keras's words.

    ``fit`` calls :meth:`run_epoch` for each epoch and that calls :meth:`train_step` for each batch. Each of the three
    may be overridden in a subclass, as may :meth:`test_step` and :meth:`predict_step`.

    A batch is ``(x,)``, ``(x, y)`` or ``(x, y, weight)``. Where x is a tuple or list of tensors the model is called
    with them as arguments, where it is a dict, by name. Several outputs are a tuple, list or dict, with ``loss`` in the
    same structure.

    Args:
        model: an ``nn.Module``.
        loss: a name (``"cross_entropy"`` and ``"nll"`` of class numbers or probabilities, ``"mse"``, ``"mae"``,
            ``"huber"``, ``"bce"`` of probabilities, ``"bce_with_logits"``), a loss module, a function of (prediction,
            target) that gives a number or one for each sample, or a list or dict of these. Named losses and modules
            also take logits (N, T, C) with targets (N, T). None where ``train_step`` does it all.
        optimizer: a name of ``pydl.optim`` in any case, an optimizer, its class, or a function of the model's
            parameters that makes one; default ``"adam"``. Made by name it follows models whose shapes are not known yet
            (lazy layers). LBFGS computes each batch several times; give it all data in one batch.
        metrics: names, classes or objects of ``pydl.metrics``, or functions of (prediction, target); for several
            outputs a dict by output.
        lr: the learning rate for an optimizer given by name; default the optimizer's own.
        loss_weights: factors of several losses; default 1.
        scheduler: a schedule of ``pydl.optim.lr_scheduler``, a function of the optimizer that makes one, or a list. Its
            own ``unit`` says whether it is stepped after each optimizer step or each epoch.
        scheduler_monitor: what ReduceLROnPlateau looks at; default ``"val_loss"`` with validation, else ``"loss"``.
        regularizers: a :mod:`pydl.regularizers` penalty for all weights (parameters of two axes and more), or a dict
            from names with ``*`` and ``?`` to penalties. What ``regularize(model, ...)`` has set counts as well. As in
            Keras the penalties are in the losses that are logged. Constraints of ``pydl.constraints`` are applied after
            each step.
        clip_norm: bound of the global norm of all gradients; default none.
        clip_value: bound of each element; default none.
        accumulate: batches whose gradients make one step; default 1. Each counts by the terms in its mean, so the
            step is that of the joined batch even where sizes differ. An epoch's rest makes a step of its own.
        ema: decay of a moving average of the weights, such as 0.999; default none. Validation, ``on_epoch_end`` and the
            model that ``fit`` leaves have the averaged weights; the model's own are kept for the next ``fit`` and in
            checkpoints, and come back there unless the model was changed in between.
        autocast: ``"bfloat16"`` rounds inputs and weights of dense, convolutional and recurrent layers to bfloat16
            in training, evaluation and prediction; weights, gradients and sums stay float32. It shows how a model
            does with those numbers (on scikit-learn's digits a CNN and an LSTM stay within a point of accuracy); on a
            CPU it saves neither time nor memory, a CUDA device multiplies in bfloat16. Default none.
        tbptt: truncated backpropagation through time: batches (N, T, ...) are cut along their second axis into windows
            of this many steps, each of which is an optimizer step. The model must be called as ``model(x, state)``,
            with None as the first state, and return ``(prediction, state)``. The state is carried, without its
            gradient, from window to window. ``evaluate`` and ``predict`` call it the same way, on the whole length.
        capture: record the step as a CUDA graph and replay it, which saves the time that Python and the launches take:
            for small models on a GPU. The same losses and weights to the bit. A step is captured when its shapes come
            for the second time in a row; others, such as an epoch's last batch, run without. Losses and metrics are
            read some steps later, or when a callback looks at its logs. A model that reads numbers from the device, or
            brings some there, can't be captured: ValueError names the operation. What it computes in Python is frozen.
            An index or class number out of range is found some steps later. ValueError on a CPU. Default False.
        stateful: with ``tbptt``, carry the state from batch to batch too, until the epoch ends; row i of a batch must
            go on where row i of the one before ended. Default False: each batch begins with None.
        check_finite: look at each loss, and at the gradients' norm where clipping computes it; where one is not finite
            the step is done again with checks and :class:`pydl.train.NotFinite` says where it began. For that a
            copy of the weights and of the optimizer's state is kept, and the last batches, up to 64 MB of them. Also
            refuses NaN in arrays, and in datasets and loaders made of arrays alone. Default True.
        seed: of shuffling and random splits. Everything else draws from ``pydl.default_generator()``; see
            ``pydl.manual_seed``. Default 0.
        train_step: a function of (trainer, batch) in place of the method; returns a dict of numbers to be averaged.

    Attributes:
        model, optimizer, scheduler (None, one or a list), history (of the last fit).
        epoch: the running epoch, from 0. step: optimizer steps so far, over all fits.
        steps_per_epoch: batches in an epoch, None where unknown. epochs: those of the running fit.
        stop_training: set it to True, from a callback, and the fit ends after this batch.
        stop_reason: ``"completed"``, ``"stopped"``, ``"interrupted"``, ``"not finite"`` or ``"error"``; None before
            a fit.
        gradient_norm: that of the last step before clipping, where ``clip_norm`` computed it.

    >>> import pydl
    >>> from pydl import nn
    >>> _ = pydl.manual_seed(0)
    >>> x = pydl.rand(64, 2)
    >>> y = (x.sum(axis=1) > 1).astype(pydl.int64)
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> trainer = Trainer(model, "cross_entropy", "adam", ["accuracy"], lr=0.05)
    >>> history = trainer.fit(x, y, epochs=20, verbose=0)
    >>> history["accuracy"][-1] > 0.9, trainer.predict(x[:3]).shape
    (True, (3, 2))
    """

    def __init__(
        self,
        model: Module,
        loss: Any = None,
        optimizer: Any = "adam",
        metrics: Any = (),
        *,
        lr: float | None = None,
        loss_weights: Any = None,
        scheduler: Any = None,
        scheduler_monitor: str | None = None,
        regularizers: Any = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        autocast: str | None = None,
        tbptt: int | None = None,
        stateful: bool = False,
        capture: bool = False,
        check_finite: bool = True,
        seed: int = 0,
        train_step: Callable[[Trainer, Any], Mapping[str, float]] | None = None,
    ) -> None:
        if not isinstance(model, Module):
            hint = f": {model.__name__}(...)" if isinstance(model, type) else ""
            got = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
            raise TypeError(f"[Trainer] got {got} as model, expected a pydl.nn.Module{hint}")
        if not hasattr(seed, "__index__"):
            raise TypeError(f"[Trainer] got seed={seed!r}, expected an integer")
        accumulate = whole_number("Trainer", "accumulate", accumulate, 1)
        tbptt = whole_number("Trainer", "tbptt", tbptt, 1, none=True)
        for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if bound is not None and not real_number("Trainer", name, bound) > 0:
                raise ValueError(f"[Trainer] got {name}={bound!r}, expected more than 0, or None")
        if ema is not None and not 0.0 <= real_number("Trainer", "ema", ema) < 1.0:
            raise ValueError(f"[Trainer] got ema={ema!r}, expected a decay from 0 to below 1, such as 0.999")
        if train_step is not None and not callable(train_step):
            raise TypeError(f"[Trainer] got train_step={train_step!r}, expected a function of (trainer, batch)")
        if tbptt is not None and accumulate > 1:
            raise ValueError("[Trainer] got tbptt and accumulate, expected one of them: each window is a step")
        self.model = model
        self.objective = None if loss is None else Objective(loss, loss_weights, classes_last=tbptt is not None)
        self.metrics = MetricSet(metrics, self.objective or Objective("mse"))
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.accumulate = accumulate
        self.ema_decay = ema
        self.tbptt, self.stateful = tbptt, stateful
        self.check_finite = check_finite
        self.seed = seed
        self.scheduler_monitor = scheduler_monitor
        self.penalties = Penalties(model, regularizers)
        self._make_optimizer = make_optimizer(optimizer, lr)
        self._make_schedulers = make_schedulers(scheduler)
        self._custom_step = train_step
        self._call: Callable[..., Any] = call_model
        if autocast is not None:
            from pydl.train.autocast import autocast_calls

            self._call = autocast_calls(autocast)
        self.optimizer: Any = None
        self.schedulers: list[Any] = []
        self.average: Any = None  # MovingAverage
        self.tracker = Tracker()
        self.class_weights: ClassWeights | None = None
        self.history: History | None = None
        self.epoch = 0
        self.epochs = 0
        self.step = 0
        self.epochs_trained = 0
        self.steps_per_epoch: int | None = None
        self.stop_training = False
        self.stop_reason: str | None = None
        self._gradient_norm: float | None = None
        self.capture = bool(capture)
        self._captures = False  # now
        self._captured: Any = None  # CapturedSteps
        self.state: Any = None  # carried through windows of sequences
        self._constrained = False  # whether a parameter has a constraint
        self._pending = 0  # batches whose gradients wait for a step
        self._pending_terms = 0.0
        self._fitting: Fitting | None = None
        self._folder: Any = None  # where checkpoints of this trainer are
        if not any(hasattr(parameter, "materialize") for parameter in model.parameters()):
            self.build()
        if self.capture:
            from pydl.train.captured import check_capturable

            check_capturable(self)

    @property
    def gradient_norm(self) -> float | None:
        """That of the last step before clipping, where ``clip_norm`` computed it."""
        self.read_steps()
        return self._gradient_norm

    @property
    def captured(self) -> CapturedSteps:
        """The steps that are captured."""
        if self._captured is None:
            from pydl.train.captured import CapturedSteps

            self._captured = CapturedSteps(self)
        found: CapturedSteps = self._captured
        return found

    def read_steps(self) -> None:
        """With ``capture``: read the losses and metrics of the steps that were not read yet; waits for the device."""
        if self._captured is not None:
            self._captured.read()

    def stop_capturing(self) -> None:
        """Do the steps from here on without graphs, until the next epoch; what was not read is forgotten."""
        self._captures, self._captured = False, None

    @property
    def scheduler(self) -> Any:
        """The schedule, a list of several, or None."""
        return self.schedulers if len(self.schedulers) > 1 else (self.schedulers[0] if self.schedulers else None)

    def build(self) -> None:
        """Make the optimizer, the schedules and the average, once; done by itself when the shapes are known."""
        if self.optimizer is None:
            self.optimizer = self._make_optimizer(self.model)
            self._check_closure()
            self.schedulers = self._make_schedulers(self.optimizer)
        if self.ema_decay is not None and self.average is None:
            from pydl.train.averaging import MovingAverage

            self.average = MovingAverage(self.model, self.ema_decay)

    def _check_closure(self) -> None:
        if self.optimizer.needs_closure:
            given = {"accumulate": self.accumulate > 1, "tbptt": self.tbptt is not None, "clip_norm": self.clip_norm,
                     "clip_value": self.clip_value}  # fmt: skip
            for name, value in given.items():
                if value:
                    raise ValueError(
                        f"[Trainer] got {name} with {type(self.optimizer).__name__}, which computes a batch's loss "
                        "and gradients several times in a step; expected another optimizer, such as 'adam'"
                    )

    # ---- training

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        *,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_mode: str | None = None,
        validation_freq: int | Iterable[int] = 1,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        callbacks: Any = (),
        verbose: Any = "auto",
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        checkpoint: Any = None,
        checkpoint_every: int | None = None,
        resume: Any = None,
    ) -> History:
        """Train until epoch ``epochs``.

        Args:
            x: an array, a tuple, list or dict of arrays (several inputs), a ``pydl.data`` dataset or loader, or any
                iterable of batches. Floating arrays are converted to the model's dtype. A generator gives its batches
                once: that is for one epoch, or for ``steps_per_epoch``.
            y: the targets, where x is arrays.
            batch_size: of arrays and datasets; loaders have their own. Default 32.
            epochs: the number of the last epoch, counted from 1; default 1.
            validation_data: ``(x, y)`` or ``(x, y, sample_weight)``, a dataset, a loader, an iterable of batches.
            validation_split: the share of the arrays that is held back; default 0.
            validation_mode: how, then: ``"random"``, ``"stratified"`` (by class) or ``"last"`` (Keras's way).
            validation_freq: epochs from one validation to the next; default 1. Or a list of epochs, counted from 1.
            validation_steps: batches of a validation; default all. Each validation begins at the first one, if it can.
            validation_batch_size: of its arrays and datasets; default ``batch_size``.
            class_weight: class number -> factor of its samples' loss, as in Keras. Metrics do not see it.
            sample_weight: (N,) or (N, T): factors of losses, whose sum is divided by the number of terms as in Keras;
                and weights of the metrics' means. Booleans are a mask: what is False counts for nothing and in nothing.
            callbacks: objects of ``pydl.callbacks``, or one of them.
            verbose: ``"auto"``, 0 silent, 1 a bar, 2 a line an epoch.
            shuffle: a new order of arrays and datasets each epoch, from (seed, epoch); default True.
            initial_epoch: where to begin counting; default 0.
            steps_per_epoch: batches in an epoch; the next epoch goes on behind them. Default: all.
            checkpoint: a folder (or :class:`pydl.train.Checkpoint`) where the last two states and the best are kept.
            checkpoint_every: optimizer steps from one to the next; default: at the end of each epoch. Ctrl-C saves too.
            resume: ``"last"`` goes on, in the middle of an epoch, where the newest checkpoint of the folder is, and
                begins anew where there is none; ``"best"`` or a path goes on from that file. The rest of the call must
                be the same; the run then ends with the same bytes as one that was not stopped.

        Returns:
            The :class:`~pydl.train.history.History` of all epochs that were completed.

        Raises:
            ValueError, TypeError: something is wrong with the data or the arguments; no step was made.
            FileExistsError: the checkpoints in the folder are of another training, which ``resume`` goes on with.
            pydl.train.NotFinite: a loss or gradient was NaN or infinite. The model is as it was before that step.
                With ``TerminateOnNaN`` among the callbacks the history is returned instead.
            KeyboardInterrupt: at the second Ctrl-C. At the first one the step is finished, a checkpoint is saved,
                and the history so far is returned with ``stop_reason == "interrupted"``.
        """
        from pydl.train.fitting import Fitting

        if self._fitting is not None:
            raise ValueError("[fit] is running already; use another Trainer inside of callbacks")
        fitting = Fitting(
            self, x, y, batch_size=batch_size, epochs=epochs, validation_data=validation_data,
            validation_split=validation_split, validation_mode=validation_mode, validation_freq=validation_freq,
            validation_steps=validation_steps, validation_batch_size=validation_batch_size,
            class_weight=class_weight, sample_weight=sample_weight, callbacks=callbacks, verbose=verbose,
            shuffle=shuffle, initial_epoch=initial_epoch, steps_per_epoch=steps_per_epoch, checkpoint=checkpoint,
            checkpoint_every=checkpoint_every, resume=resume,
        )  # fmt: skip
        self._fitting = fitting
        self._constrained = any(module.__dict__.get("_constraints") for module in self.model.modules())
        try:
            return fitting.run()
        finally:
            self._fitting = None
            self._captures = False
            if self._captured is not None:
                self._captured.forget_unread()

    def run_epoch(self, batches: Iterable[Any]) -> dict[str, Any]:
        """Train on batches until they end or something asks to stop; the means of losses and metrics."""
        fitting = self._fitting
        if fitting is None:
            raise ValueError("[run_epoch] is called by fit; call that")
        self.model.train()
        self._captures = self.capture
        if self.capture:
            from pydl.train.captured import check_capturable

            check_capturable(self)
            self.captured.begin_epoch()
        begin, end = fitting.hooks["on_train_batch_begin"], fitting.hooks["on_train_batch_end"]
        step = self.train_step if self._custom_step is None else self.one_step
        checked = self.check_finite and _looks_nowhere(self)  # compute_loss looks, too
        recorder = fitting.recorder
        place = self._placing()
        for batch in batches:
            if begin is not None:
                begin(fitting.batch, {})
            try:
                if recorder is not None:
                    if recorder.unasked:
                        recorder.unasked -= 1
                    else:
                        recorder.note(batch)
                logs = step(batch if place is None else place(batch))
            except Suspect as suspect:
                fitting.not_finite(suspect, batch)
            if not self._captures:  # what is captured is counted when it is read
                self.tracker.add(logs, float(samples_in(batch)))
            if checked and not math.isfinite(logs.get("loss", 0.0)):
                fitting.not_finite(Suspect("loss", logs["loss"]), batch)
            fitting.batch += 1
            try:  # who looks at the logs of captured steps reads them
                if end is not None:
                    call_with_logs(end, fitting.batch - 1, self._running_logs)
                leaves = fitting.after_batch()
            except Suspect as suspect:
                fitting.not_finite(suspect, batch)
            if leaves:
                break
        if self._pending or self._captures:
            try:
                self.read_steps()
                if self._pending:
                    self.apply_gradients()
            except Suspect as suspect:
                fitting.not_finite(suspect, batch)
        return self._running_logs()

    def one_step(self, batch: Any) -> Mapping[str, float]:
        """:meth:`train_step`, or the function that was given in its place."""
        if self._custom_step is None:
            return self.train_step(batch)
        before = self.step
        logs = self._custom_step(self, batch)
        if not hasattr(logs, "items"):
            raise TypeError(f"[Trainer] train_step gave a {type(logs).__name__}, expected a dict of names and numbers")
        if self.step == before and not self._pending:
            self.step += 1
        return {name: float(value) for name, value in logs.items()}

    def _running_logs(self) -> dict[str, Any]:
        self.read_steps()
        logs: dict[str, Any] = self.tracker.results()
        if self.metrics:
            logs.update(self.metrics.results())
        return logs

    def train_step(self, batch: Any) -> Mapping[str, float]:
        """Forward, loss, backward, and the optimizer's step when ``accumulate`` batches are together.

        Returns:
            name -> mean over the batch, ``"loss"`` among them.
        """
        if self._captures:
            from pydl.train.captured import train_captured

            train_captured(self, batch)
            return {}
        if self.tbptt is not None:
            from pydl.train.windows import train_windows

            return train_windows(self, batch)
        x, y, weight = as_batch(batch)
        if self.optimizer.needs_closure:
            logs = self._minimize(x, y, weight)
        else:
            if not self._pending:
                self.optimizer.zero_grad()
            prediction = self._call(self.model, x)
            loss, logs = self.compute_loss(prediction, y, weight)
            if self.metrics:  # before the step: where they do not fit, no weight has changed
                self.metrics.update(_detached(prediction), y, weight)
            self.backward(loss, logs.counts["loss"])
            if self._pending >= self.accumulate:
                self.apply_gradients()
        return logs

    def _minimize(self, x: Any, y: Any, weight: Any) -> StepLogs:
        """A step of an optimizer that asks for the loss several times; the first answers are the step's."""
        first: list[StepLogs] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            prediction = self._call(self.model, x)
            loss, logs = self.compute_loss(prediction, y, weight)
            if not first:
                first.append(logs)
                if self.metrics:
                    self.metrics.update(_detached(prediction), y, weight)
            loss.backward()
            return loss

        self.optimizer.step(closure)
        self._after_step()
        return first[0]

    def compute_loss(self, prediction: Any, y: Any, weight: Any = None) -> tuple[Tensor, StepLogs]:
        """The loss of a batch with all penalties, and its numbers for the logs.

        Raises (inwardly) where it is not finite and ``check_finite`` is on; ``fit`` then looks for the reason.
        """
        loss, count, parts = self.loss_of(prediction, y, weight)
        value = loss.item()
        if self.check_finite and not math.isfinite(value):
            raise Suspect("loss", value)
        logs = StepLogs(loss=value)
        logs.counts["loss"] = count
        for name, (part, terms) in parts.items():
            logs[name] = part.item()
            logs.counts[name] = terms
        return loss, logs

    def loss_of(self, prediction: Any, y: Any, weight: Any = None) -> tuple[Tensor, Any, dict[str, tuple[Any, Any]]]:
        """The loss with all penalties, its number of terms, and for several outputs each one's (loss, terms)."""
        if self.objective is None:
            raise ValueError("[Trainer] has no loss; give one, or a train_step")
        if self.class_weights is not None:
            weight = self._class_weighted(y, weight)
        loss, count, parts = self.objective(prediction, y, weight)
        penalty = self.penalties()
        return loss if penalty is None else loss + penalty, count, parts

    def _class_weighted(self, y: Any, weight: Any) -> Any:
        assert self.class_weights is not None
        factors = self.class_weights.of(y, pydl.float32)
        if weight is None:
            return factors
        if weight.dtype == pydl.bool:
            raise ValueError("[fit] got class_weight and a mask as sample_weight, expected one of them")
        return factors * weight.astype(factors.dtype).reshape(tuple(weight.shape) + (1,) * (factors.ndim - weight.ndim))

    def backward(self, loss: Tensor, terms: float = 1.0) -> None:
        """Add the gradients of a batch's loss, which is a mean of so many terms."""
        self._pending += 1
        if self.accumulate > 1:
            self._pending_terms += terms
            loss = loss * terms
        loss.backward()

    def apply_gradients(self) -> None:
        """Scale, clip, step, and what follows a step: the average, schedules by step, the count."""
        if self.accumulate > 1:
            total = self._pending_terms
            for parameter in self.model.parameters():
                if parameter.grad is not None and total:
                    parameter.grad.mul_(1.0 / total)
            self._pending_terms = 0.0
        self._pending = 0
        clipped = self.clip()
        if clipped is not None:
            norm = self._gradient_norm = clipped.item()
            if self.check_finite and not math.isfinite(norm):
                raise Suspect("gradient norm", norm)
        self.optimizer.step()
        self._after_step()

    def clip(self) -> Tensor | None:
        """Bound the gradients as ``clip_value`` and ``clip_norm`` say; the norm before, where that is computed."""
        if self.clip_value is not None:
            pydl.nn.utils.clip_grad_value_(self.model.parameters(), self.clip_value)
        if self.clip_norm is None:
            return None
        return pydl.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)

    def _after_step(self) -> None:
        if self._constrained:
            constraints.apply(self.model)
        self.step += 1
        if self.average is not None:
            self.average.update()
        for scheduler in self.schedulers:
            if scheduler.unit == "step":
                self._step_schedule(scheduler, self._means)

    def _means(self) -> dict[str, float]:
        self.read_steps()
        return self.tracker.results()

    def _step_schedule(self, scheduler: Any, logs: Callable[[], Mapping[str, Any]]) -> None:
        from pydl.optim.lr_scheduler import ReduceLROnPlateau

        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
            return
        known = logs()
        name = self.scheduler_monitor or ("val_loss" if "val_loss" in known else "loss")
        if name in known:
            scheduler.step(known[name])
        elif name != "loss" and scheduler.unit == "epoch" and not name.startswith("val_"):
            raise ValueError(f"[Trainer] ReduceLROnPlateau looks at {name!r}, expected one of {', '.join(known)}")

    # ---- saving

    def save(self, path: Any) -> None:
        """Write everything that a training goes on from into one safetensors file, atomically.

        Weights lie there under ``model.NAME``; see :mod:`pydl.train.checkpoint`. Called from a callback's
        ``on_epoch_end``, or between accumulated batches, it is written as soon as the epoch or step is complete.
        """
        fitting = self._fitting
        if fitting is not None and (fitting.closing or self._pending):
            fitting.late.append(path)
            return
        from pydl.train.checkpoint import training_state, write_checkpoint

        write_checkpoint(training_state(self), path)

    def load(self, path: Any) -> None:
        """Take model, optimizer, schedules, average and generators from a file that :meth:`save` has written.

        To go on with a training, give ``fit`` the path as ``resume``.

        Raises:
            ValueError: the file is damaged, of something else, or does not fit.
            OSError: it cannot be read.
        """
        from pydl.train.checkpoint import read_checkpoint, restore_training

        restore_training(self, read_checkpoint(path))
        if self._captured is not None:
            self._captured.forget()


explain_constructor(Trainer, False)


def _looks_nowhere(trainer: Trainer) -> bool:
    """Whether a step of one's own, in place of the trainer's, may give a loss that nobody has looked at."""
    cls = type(trainer)
    ours = cls.train_step is Trainer.train_step and cls.compute_loss is Trainer.compute_loss
    return trainer._custom_step is not None or not ours or trainer.tbptt is not None


def _detached(prediction: Any) -> Any:
    if isinstance(prediction, pydl.Tensor):
        return prediction.detach()
    return map_leaves(lambda t: t.detach() if isinstance(t, pydl.Tensor) else t, prediction)
