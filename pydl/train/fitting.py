"""One call of fit: its loaders, callbacks, checkpoints, and every way out of it."""

from __future__ import annotations

import errno
import os
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pydl.train.anomaly import NotFinite
from pydl.train.arguments import whole_number
from pydl.train.checkpoint import Checkpoint, as_checkpoint, restore_fitting, training_state
from pydl.train.inputs import any_ignored, first_batches, make_loader, split_indices
from pydl.train.interrupt import Interrupts
from pydl.train.objective import ClassWeights
from pydl.train.recorder import Recorder, Suspect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl.train.history import History
    from pydl.train.trainer import Trainer

__all__ = ["Fitting"]


class Fitting:
    """What lives as long as one ``fit``. Made of fit's arguments, which it checks; :meth:`run` trains."""

    def __init__(self, trainer: Trainer, x: Any, y: Any, **options: Any) -> None:
        from pydl.callbacks import CallbackList, ProgressBar
        from pydl.callbacks.monitor import Monitor
        from pydl.data import DataLoader
        from pydl.train.history import History

        self.trainer = trainer
        self.options = options
        self.batch = 0  # of the running epoch
        self.trained = False  # the running epoch waits for its validation only
        self.closing = False  # the callbacks of an epoch's end are running
        self.late: list[Any] = []  # where a state is to be saved as soon as there is a whole one
        self._check_counts()
        self.interrupts = Interrupts()
        self.loader, self.validation = self._loaders(x, y)
        again = isinstance(self.loader, DataLoader) and options["steps_per_epoch"] is None
        self.recorder = Recorder(trainer, self.loader if again else None) if trainer.check_finite else None
        class_weight = options["class_weight"]
        trainer.class_weights = None if class_weight is None else self._class_weights(class_weight)
        trainer._check_labels("fit", self.loader)
        if self.validation is not None:
            trainer._check_labels("validation_data", self.validation)
        self._look_for_ignored()
        trainer.build()
        if trainer.average is not None:
            trainer.average.come_back()
        trainer.penalties.refresh()
        self._iterator: Iterator[Any] | None = None

        self.first_epoch = options["initial_epoch"]
        trainer.epochs = options["epochs"]
        names = self._names()
        if names and trainer.scheduler_monitor is not None and trainer.scheduler_monitor not in names:
            raise ValueError(
                f"[Trainer] got scheduler_monitor={trainer.scheduler_monitor!r}, expected one of {', '.join(names)}"
            )
        trainer.steps_per_epoch = options["steps_per_epoch"] or _length(self.loader)
        trainer.stop_training, trainer.stop_reason = False, None
        given = options["callbacks"]
        params = {
            "epochs": options["epochs"],
            "steps": trainer.steps_per_epoch,
            "batch_size": getattr(self.loader, "batch_size", None),
            "samples": _length(getattr(self.loader, "dataset", None)),
            "verbose": options["verbose"],
            "metrics": names,
            "test_steps": options["validation_steps"] or _length(self.validation),
        }
        self.history: History = History()
        trainer.history = self.history
        self.callbacks = CallbackList(given, trainer, params)
        self.progress = [] if options["verbose"] in (0, False) else [ProgressBar(options["verbose"])]
        self.all = CallbackList([*self.callbacks, *self.progress, self.history], trainer, params)
        self.hooks = self.all.hooks
        self.folder = None if options["checkpoint"] is None else as_checkpoint(options["checkpoint"])
        if self.folder is not None and self.folder.monitor is not None:
            Monitor("Checkpoint", self.folder.monitor, self.folder.mode).check(params)
        self._saved_step = trainer.step
        self._resume(options["resume"])

    def _resume(self, which: Any) -> None:
        if self.folder is not None:
            self.folder.prepare()
            if which is None and self.folder.newest() and self.trainer._folder != self.folder.folder:
                raise FileExistsError(
                    17, "The folder has checkpoints of another training; use resume='last' or another folder",
                    str(self.folder.folder),
                )  # fmt: skip
            self.trainer._folder = self.folder.folder
        if which is None:
            return
        if not isinstance(which, (str, PathLike)):
            raise TypeError(f"[fit] got resume={which!r}, expected 'last', 'best', a path, or None to begin anew")
        if isinstance(which, str) and which not in ("last", "best") and not os.path.exists(which):
            raise FileNotFoundError(
                errno.ENOENT, "There is no such checkpoint; expected 'last', 'best' or the path of one", which
            )
        folder = self.folder or Checkpoint(Path(which).parent)
        state = folder.load(which)
        if state is not None:
            restore_fitting(self, state, str(which))

    def state_dict(self) -> dict[str, Any]:
        """Where the fit is: batch, loader, history, callbacks."""
        loader = self.loader.state_dict()
        if not self.batch and not self.trained and loader["batch"] and self.options["steps_per_epoch"] is None:
            loader = {**loader, "epoch": loader["epoch"] + 1, "batch": 0}  # the epoch was left before its end
        return {
            "batch": self.batch,
            "trained": self.trained,
            "loader": loader,
            "history": self.history.state_dict(),
            "callbacks": self.callbacks.state_dict(),
            "best": None if self.folder is None else self.folder.best,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from there."""
        self.batch, self.trained = state["batch"], state["trained"]
        self.loader.load_state_dict(state["loader"])
        self.history.load_state_dict(state["history"])
        self.callbacks.load_state_dict(state["callbacks"])
        if self.folder is not None:
            self.folder.best = state["best"]
        self.first_epoch = self.trainer.epoch
        self._saved_step = self.trainer.step

    def save_late(self) -> None:
        """Write what was asked for while the state was between two."""
        paths, self.late = self.late, []
        for path in paths:
            self.trainer.save(path)

    def save(self, best: bool = False) -> None:
        """Write a checkpoint, unless one of this very moment is there already."""
        if self.folder is not None:
            self.folder.save(training_state(self.trainer), self.trainer.step, best)
            self._saved_step = self.trainer.step

    def _check_counts(self) -> None:
        options = self.options
        for name in ("epochs", "initial_epoch"):
            options[name] = whole_number("fit", name, options[name])
        for name in ("steps_per_epoch", "validation_steps", "validation_batch_size", "checkpoint_every"):
            options[name] = whole_number("fit", name, options[name], 1, none=True)
        freq = options["validation_freq"]
        if isinstance(freq, (list, tuple, set, frozenset, range)):
            options["validation_freq"] = {whole_number("fit", "an epoch of validation_freq", each, 1) for each in freq}
        else:
            options["validation_freq"] = whole_number("fit", "validation_freq", freq, 1)
        if not isinstance(options["shuffle"], (bool, int, np.bool_)):
            raise TypeError(f"[fit] got shuffle={options['shuffle']!r}, expected True or False")
        if 0 < options["epochs"] <= options["initial_epoch"]:
            warnings.warn(
                f"[fit] got initial_epoch={options['initial_epoch']} and epochs={options['epochs']}, so nothing is "
                "trained; epochs is the number of the last one, not how many there are",
                UserWarning,
                stacklevel=4,
            )
        if self.options["checkpoint"] is None:
            if self.options["checkpoint_every"] is not None:
                raise ValueError("[fit] got checkpoint_every without checkpoint, the folder to save to")
            if self.options["resume"] in ("last", "best"):
                raise ValueError(
                    f"[fit] got resume={self.options['resume']!r} without checkpoint, the folder to look in"
                )

    def _look_for_ignored(self) -> None:
        objective = self.trainer.objective
        if objective is not None and objective.is_classification:
            loaders = [self.loader] if self.validation is None else [self.loader, self.validation]
            datasets = [getattr(loader, "dataset", None) for loader in loaders]
            own = all(getattr(loader, "transform", None) is None for loader in loaders)
            objective.terms[None].none_ignored = own and not any(any_ignored(d, objective) for d in datasets)

    def _class_weights(self, weights: Any) -> ClassWeights:
        if self.trainer.objective is None or self.trainer.objective.many:
            raise ValueError("[fit] got class_weight, expected a model with one loss; use sample_weight")
        return ClassWeights(weights)

    def _names(self) -> list[str] | None:
        trainer = self.trainer
        if trainer._custom_step is not None or trainer.objective is None:
            return None
        names = ["loss"] + [name for name, _, _ in trainer.metrics.entries]
        if trainer.objective.many:
            names += [f"{trainer.objective.name_of(key)}_loss" for key in trainer.objective.terms]
        if self.validation is not None:
            names += [f"val_{name}" for name in names]
        return [*names, "lr"]

    # ---- data

    def _loaders(self, x: Any, y: Any) -> tuple[Any, Any]:
        options, trainer = self.options, self.trainer
        share, given = options["validation_split"], options["validation_data"]
        if share and given is not None:
            raise ValueError("[fit] got validation_split and validation_data, expected one of them")
        if options["validation_mode"] is not None and not share:
            raise ValueError("[fit] got validation_mode without validation_split, the share to hold back")
        size = options["batch_size"]
        epochs = range(options["initial_epoch"], options["epochs"] if options["resume"] is None else 0)
        times = len(epochs) if options["steps_per_epoch"] is None else 1
        loader = trainer._loader(
            "fit", x, y, options["sample_weight"], size, shuffle=bool(options["shuffle"]), times=times
        )
        validation = None
        size = options["validation_batch_size"] or size
        if share:
            loader, validation = self._split(loader, share)
        elif given is not None:
            if isinstance(given, tuple) and len(given) > 3:
                raise ValueError(
                    f"[fit] got validation_data of {len(given)} parts, expected (x, y) or (x, y, sample_weight); put "
                    "several inputs into one tuple: ((x1, x2), y)"
                )
            if isinstance(given, (tuple, list)) and len(given) in (1, 2, 3):
                validation = trainer._loader(
                    "validation_data", given[0], given[1] if len(given) > 1 else None,
                    given[2] if len(given) > 2 else None, size,
                )  # fmt: skip
            else:
                times = sum(map(self._validates, epochs)) if options["validation_steps"] is None else 1
                validation = trainer._loader("validation_data", given, None, None, size, times=times)
        if trainer.epochs_trained and loader is not x and hasattr(loader, "epoch"):
            loader.load_state_dict({**loader.state_dict(), "epoch": trainer.epochs_trained})
        return loader, validation

    def _split(self, loader: Any, share: float) -> tuple[Any, Any]:
        dataset: Any = getattr(loader, "dataset", None)
        options, trainer = self.options, self.trainer
        if not hasattr(dataset, "arrays") or not hasattr(loader, "shuffle"):
            raise ValueError(
                "[fit] got validation_split for data that is no arrays; use pydl.data.random_split and validation_data"
            )
        classes = trainer.objective is not None and trainer.objective.is_classification
        y = dataset.arrays[1] if len(dataset.arrays) > 1 else None
        kept, held = split_indices("fit", len(dataset), share, options["validation_mode"], y, classes, trainer.seed)
        parts = []
        for rows, shuffle in ((kept, bool(options["shuffle"])), (held, False)):
            size = options["batch_size"] if rows is kept else options["validation_batch_size"] or options["batch_size"]
            parts.append(
                make_loader(
                    "fit", *dataset.batch(rows), batch_size=size, shuffle=shuffle, seed=trainer.seed,
                    dtype=None, classes=classes, check_finite=False,
                )
            )  # fmt: skip
        return parts[0], parts[1]

    def _batches(self) -> Iterator[Any]:
        """The rest of the running epoch."""
        steps = self.options["steps_per_epoch"]
        if steps is None:
            yield from self.loader
            return
        while self.batch < steps:
            if self._iterator is None:
                self._iterator = iter(self.loader)
            batch = next(self._iterator, None)
            if batch is None:
                self._iterator = None
                continue
            yield batch

    # ---- what the step loop asks

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.interrupts.asked

    def not_finite(self, suspect: Suspect, batch: Any) -> NoReturn:
        """A step found a number that is not finite: go back to before it, and raise what is to blame."""
        from pydl.train.replay import investigate

        raise investigate(self.trainer, self.recorder, suspect, batch)

    def after_batch(self) -> bool:
        """After a step: save when it is time; whether to leave the epoch."""
        trainer, every = self.trainer, self.options["checkpoint_every"]
        if self.late and not trainer._pending:
            self.save_late()
        if every is not None and not trainer._pending and trainer.step - self._saved_step >= every:
            self.save()
        return (self.interrupts.asked and not trainer._pending) or trainer.stop_training

    # ---- the run

    def run(self) -> History:
        """Train; call on_train_end once on every way out."""
        trainer = self.trainer
        try:
            with self.interrupts:
                self._train()
        except KeyboardInterrupt:
            trainer.stop_reason = "interrupted"
            raise
        except NotFinite:
            trainer.stop_reason = "not finite"
            if not self._ends_quietly():
                raise
        except BaseException:
            trainer.stop_reason = "error"
            raise
        finally:
            self._leave()
        return self.history

    def _ends_quietly(self) -> bool:
        from pydl.callbacks import TerminateOnNaN

        return any(isinstance(callback, TerminateOnNaN) for callback in self.callbacks)

    def _train(self) -> None:
        trainer, hooks = self.trainer, self.hooks
        trainer.epoch = self.first_epoch
        if hooks["on_train_begin"] is not None:
            hooks["on_train_begin"]({})
        while trainer.epoch < trainer.epochs and not self._asked_to_stop():
            if self.interrupted or not self._epoch():
                self.save()
                trainer.stop_reason = "interrupted"
                return
        if trainer.stop_reason is None:
            trainer.stop_reason = "stopped" if trainer.stop_training else "completed"

    def _asked_to_stop(self) -> bool:
        if self.trainer.model.__dict__.pop("stop_training", False):  # where callbacks for Keras set it
            self.trainer.stop_training = True
        return self.trainer.stop_training

    def _epoch(self) -> bool:
        """One epoch; False where Ctrl-C came in between."""
        trainer, hooks, epoch = self.trainer, self.hooks, self.trainer.epoch
        if not self.trained:
            if self.batch == 0:
                trainer.tracker.reset()
                trainer.metrics.reset()
                trainer.state = None
                if hooks["on_epoch_begin"] is not None:
                    hooks["on_epoch_begin"](epoch, {})
            else:  # in the middle: only who shows the time must know
                for bar in self.progress:
                    bar.on_epoch_begin(epoch, {})
            if self.recorder is not None:
                self.recorder.epoch_begins()
            trainer.run_epoch(self._batches())
            if self.interrupted:
                return False
            self.trained = True
            self._check_weights()
        logs = trainer._running_logs()
        average = trainer.average
        if average is not None:
            average.show()
        try:
            if self.validation is not None and self._validates(epoch):
                found = trainer.run_test(self._validation_batches(), hooks)
                if self.interrupted:
                    return False
                logs.update({f"val_{name}": value for name, value in found.items()})
            logs["lr"] = float(trainer.optimizer.param_groups[0]["lr"])
            for scheduler in trainer.schedulers:
                if scheduler.unit == "epoch":
                    trainer._step_schedule(scheduler, lambda: logs)
            trainer.epochs_trained += 1
            self.closing = True
            if hooks["on_epoch_end"] is not None:
                hooks["on_epoch_end"](epoch, logs)
        finally:
            self.closing = False
            if average is not None:
                average.hide()
        trainer.epoch = epoch + 1
        self.batch, self.trained = 0, False
        self.save_late()
        if self.folder is not None:
            self.save(self.folder.improves(logs))
        return True

    def _validates(self, epoch: int) -> bool:
        freq = self.options["validation_freq"]
        return epoch + 1 in freq if isinstance(freq, set) else (epoch + 1) % freq == 0

    def _validation_batches(self) -> Any:
        return first_batches(self.validation, self.options["validation_steps"])

    def _check_weights(self) -> None:
        if self.recorder is not None:
            try:
                self.recorder.epoch_ends()
            except Suspect as suspect:
                self.not_finite(suspect, None)

    def _leave(self) -> None:
        trainer = self.trainer
        self.save_late()
        if trainer.objective is not None and not trainer.objective.many:
            trainer.objective.terms[None].none_ignored = False
        if trainer.average is not None:
            trainer.average.show()
        if self.hooks["on_train_end"] is not None:
            self.hooks["on_train_end"](self._last_logs())
        if trainer.average is not None:
            trainer.average.leave()

    def _last_logs(self) -> dict[str, Any]:
        return {name: values[-1] for name, values in self.history.history.items() if values}


def _length(x: Any) -> int | None:
    try:
        return len(x)
    except (TypeError, AttributeError):
        return None
