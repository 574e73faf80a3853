"""One call of fit: its loaders, callbacks, checkpoints, and every way out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pydl.train.interrupt import Interrupts
from pydl.train.inputs import make_loader, split_indices
from pydl.train.objective import ClassWeights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydl.train.history import History
    from pydl.train.trainer import Suspect, Trainer

__all__ = ["Session"]


class Session:
    """What lives as long as one ``fit``. Made of fit's arguments, which it checks; :meth:`run` trains."""

    def __init__(self, trainer: Trainer, x: Any, y: Any, **options: Any) -> None:
        from pydl.callbacks import CallbackList, ProgressBar
        from pydl.train.history import History

        self.trainer = trainer
        self.options = options
        self.batch = 0  # of the running epoch
        self.trained = False  # the running epoch waits for its validation only
        self._check_counts()
        self.interrupts = Interrupts()
        self.loader, self.validation = self._loaders(x, y)
        trainer._check_labels("fit", self.loader)
        if self.validation is not None:
            trainer._check_labels("validation_data", self.validation)
        trainer.build()
        trainer.penalties.refresh()
        class_weight = options["class_weight"]
        trainer.class_weights = None if class_weight is None else self._class_weights(class_weight)
        self._iterator: Iterator[Any] | None = None

        self.first_epoch = options["initial_epoch"]
        trainer.epochs = options["epochs"]
        trainer.steps_per_epoch = options["steps_per_epoch"] or _length(self.loader)
        trainer.stop_training, trainer.stop_reason = False, None
        given = options["callbacks"]
        params = {
            "epochs": options["epochs"],
            "steps": trainer.steps_per_epoch,
            "batch_size": getattr(self.loader, "batch_size", None),
            "samples": _length(getattr(self.loader, "dataset", None)),
            "verbose": options["verbose"],
            "metrics": self._names(),
        }
        self.history: History = History()
        trainer.history = self.history
        self.callbacks = CallbackList(given, trainer, params)
        progress = [] if options["verbose"] in (0, False) else [ProgressBar(options["verbose"])]
        self.all = CallbackList([*self.callbacks, *progress, self.history], trainer, params)
        self.hooks = self.all.hooks

    def _check_counts(self) -> None:
        for name, least in (("epochs", 0), ("initial_epoch", 0), ("validation_freq", 1)):
            value = self.options[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"[fit] got {name}={value!r}, expected an integer, {least} or more")
        for name in ("steps_per_epoch", "checkpoint_every"):
            value = self.options[name]
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"[fit] got {name}={value!r}, expected an integer, 1 or more, or None")
        if self.options["checkpoint"] is None:
            if self.options["checkpoint_every"] is not None:
                raise ValueError("[fit] got checkpoint_every without checkpoint, the folder to save to")
            if self.options["resume"] in ("last", "best"):
                raise ValueError(f"[fit] got resume={self.options['resume']!r} without checkpoint, the folder to look in")

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
        loader = trainer._loader("fit", x, y, options["sample_weight"], size, shuffle=options["shuffle"])
        validation = None
        if share:
            loader, validation = self._split(loader, share)
        elif given is not None:
            if isinstance(given, (tuple, list)) and len(given) in (1, 2, 3):
                validation = trainer._loader(
                    "validation_data", given[0], given[1] if len(given) > 1 else None,
                    given[2] if len(given) > 2 else None, size,
                )  # fmt: skip
            else:
                validation = trainer._loader("validation_data", given, None, None, size)
        if trainer.epochs_trained and loader is not x and hasattr(loader, "epoch"):
            loader.load_state_dict({**loader.state_dict(), "epoch": trainer.epochs_trained})
        return loader, validation

    def _split(self, loader: Any, share: float) -> tuple[Any, Any]:
        dataset = getattr(loader, "dataset", None)
        options, trainer = self.options, self.trainer
        if not hasattr(dataset, "arrays") or not hasattr(loader, "shuffle"):
            raise ValueError(
                "[fit] got validation_split for data that is no arrays; use pydl.data.random_split and validation_data"
            )
        classes = trainer.objective is not None and trainer.objective.is_classification
        y = dataset.arrays[1] if len(dataset.arrays) > 1 else None
        kept, held = split_indices(
            "fit", len(dataset), share, options["validation_mode"], y, classes, trainer.seed
        )
        parts = []
        for rows, shuffle in ((kept, options["shuffle"]), (held, False)):
            parts.append(
                make_loader(
                    "fit", *dataset.batch(rows), batch_size=options["batch_size"], shuffle=shuffle, seed=trainer.seed,
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

    def watch(self, batch: Any) -> None:
        """Before a step: keep what its repetition would need."""

    def not_finite(self, suspect: Suspect, batch: Any) -> NoReturn:
        """A step found a number that is not finite."""
        raise FloatingPointError(f"the {suspect.what} is {suspect.value}")

    def after_batch(self) -> bool:
        """After a step: save when it is time; whether to leave the epoch."""
        return self.interrupts.asked or self.trainer.stop_training

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
        except BaseException:
            trainer.stop_reason = "error"
            raise
        finally:
            self._leave()
        return self.history

    def _train(self) -> None:
        trainer, hooks = self.trainer, self.hooks
        trainer.epoch = self.first_epoch
        if hooks["on_train_begin"] is not None:
            hooks["on_train_begin"]({})
        while trainer.epoch < trainer.epochs and not trainer.stop_training:
            if not self._epoch():
                trainer.stop_reason = "interrupted"
                return
        if trainer.stop_reason is None:
            trainer.stop_reason = "stopped" if trainer.stop_training else "completed"

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
            trainer.run_epoch(self._batches())
            if self.interrupted:
                return False
            self.trained = True
        logs = trainer._running_logs()
        average = trainer.average
        if average is not None:
            average.show()
        try:
            if self.validation is not None and (epoch + 1) % self.options["validation_freq"] == 0:
                found = trainer.run_test(self.validation, hooks)
                if self.interrupted:
                    return False
                logs.update({f"val_{name}": value for name, value in found.items()})
            logs["lr"] = float(trainer.optimizer.param_groups[0]["lr"])
            for scheduler in trainer.schedulers:
                if scheduler.unit == "epoch":
                    trainer._step_schedule(scheduler, lambda: logs)
            trainer.epochs_trained += 1
            if hooks["on_epoch_end"] is not None:
                hooks["on_epoch_end"](epoch, logs)
        finally:
            if average is not None:
                average.hide()
        trainer.epoch = epoch + 1
        self.batch, self.trained = 0, False
        return True

    def _leave(self) -> None:
        trainer = self.trainer
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
