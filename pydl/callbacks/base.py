"""Callback: what is called at points of a training; and the list of callbacks that a trainer talks to."""

from __future__ import annotations

import inspect
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["HOOKS", "Callback", "CallbackList", "overrides", "takes"]

Logs = dict[str, float]
_MANY_ARGUMENTS = 0x04  # inspect.CO_VARARGS


class Callback:
    """Base of all callbacks: every method does nothing until a subclass has something to do.

    ``logs`` is a dict of numbers, such as ``{"loss": 0.31, "accuracy": 0.9, "val_loss": 0.35, "lr": 0.001}``; what a
    callback puts into it is seen by those after it and by the history. Epochs and batches count from 0.

    :meth:`on_train_end` is called once on every way out of ``fit``: at its end, when a callback stops it, after an
    interrupt, when a number is not finite and after an error.

    Attributes:
        trainer: who trains, from :meth:`set_trainer` on. A callback may read its ``model``, ``optimizer``, ``epoch``
            and ``step``, and set ``trainer.stop_training = True``.
        model: the trainer's model.
        params: what ``fit`` was told, such as ``"epochs"``, ``"steps"`` (batches in an epoch, None if unknown).

    >>> class Report(Callback):
    ...     def on_epoch_end(self, epoch, logs):
    ...         print(epoch, logs["loss"])
    >>> Report().on_epoch_end(0, {"loss": 0.5})
    0 0.5
    """

    trainer: Any = None
    model: Any = None
    params: Mapping[str, Any] = {}  # replaced, never changed

    def set_trainer(self, trainer: Any) -> None:
        """Told before anything else who trains."""
        self.trainer = trainer
        self.model = getattr(trainer, "model", None)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Told what ``fit`` was told."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch of a ``fit``."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """On every way out of ``fit``, once."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch's first batch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch's last batch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training step; ``logs`` are the means over the epoch so far."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation, a validation included."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch is evaluated."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before ``predict``."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After ``predict``."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch is predicted."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch is predicted; ``logs["outputs"]`` has what the model gave."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: numbers, texts, None, lists and dicts of them, and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; called after :meth:`set_trainer` and before :meth:`on_train_begin`."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
_OLD_NAMES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}  # of Keras 2


def overrides(callback: Any, hook: str) -> bool:
    """Whether a callback has something to do at a hook.

    >>> overrides(Callback(), "on_epoch_end")
    False
    """
    function = getattr(callback, hook, None)
    return function is not None and getattr(function, "__func__", None) is not getattr(Callback, hook)


class CallbackList:
    """Several callbacks as one. A hook that none of them overrides is None in :attr:`hooks`, so that it costs nothing.

    Args:
        callbacks: objects of :class:`Callback`, in the order in which they are called; or one of them, or None.
        trainer: whom they are told of; default nobody yet.
        params: what ``fit`` was told.

    Attributes:
        callbacks: the list.
        hooks: hook's name -> a function that calls it on every callback which overrides it, or None.

    Raises:
        TypeError: something that is no callback. ValueError: one of them twice.

    >>> from pydl.callbacks import CallbackList, LambdaCallback
    >>> many = CallbackList([LambdaCallback(on_epoch_end=lambda epoch, logs: print("end of", epoch))])
    >>> many.on_epoch_end(3, {})
    end of 3
    >>> many.hooks["on_train_batch_end"] is None
    True
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = (),
        trainer: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        given = _listed(callbacks)
        self.callbacks: list[Callback] = given
        for callback in given:
            callback.set_params(params or {})
            if trainer is not None:
                callback.set_trainer(trainer)
        self.hooks: dict[str, Callable[..., None] | None] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look again at who overrides what."""
        for hook in HOOKS:
            functions = [
                _checked(callback, name) for callback in self.callbacks if (name := _method(callback, hook)) is not None
            ]
            self.hooks[hook] = _call_all(functions) if functions else None

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name in HOOKS:
            return self.hooks[name] or _nothing
        raise AttributeError(f"a CallbackList has no attribute {name!r}")

    def __iter__(self) -> Iterator[Callback]:
        return iter(self.callbacks)

    def __len__(self) -> int:
        return len(self.callbacks)

    def state_dict(self) -> dict[str, Any]:
        """Position and class of each callback with a state -> the state."""
        states = {f"{i}.{type(c).__name__}": c.state_dict() for i, c in enumerate(self.callbacks)}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give each callback its state. The list must be made of the same classes, in the same order.

        Raises:
            ValueError: it is not.
        """
        own = {f"{i}.{type(c).__name__}": c for i, c in enumerate(self.callbacks)}
        unknown = [name for name in state if name not in own]
        if unknown:
            raise ValueError(
                f"[callbacks] the checkpoint has states of {unknown}, expected those of {list(own)}; "
                "resume with the same callbacks in the same order"
            )
        for name, callback in own.items():
            if name in state:
                callback.load_state_dict(state[name])


def _listed(callbacks: Any) -> list[Any]:
    """The callbacks, checked."""
    if callbacks is None or isinstance(callbacks, Callback):
        return [] if callbacks is None else [callbacks]
    if isinstance(callbacks, (str, dict)) or not hasattr(callbacks, "__iter__"):
        callbacks = [callbacks]
    given = list(callbacks)
    for i, callback in enumerate(given):
        if not isinstance(callback, Callback):
            hint = f"; make one: {callback.__name__}()" if isinstance(callback, type) else ""
            if not hint and callable(callback):
                hint = "; LambdaCallback(on_epoch_end=function) makes one of a function of (epoch, logs)"
            raise TypeError(f"[callbacks] got {callback!r}, expected objects of pydl.callbacks.Callback{hint}")
        if any(callback is other for other in given[:i]):
            raise ValueError(f"[callbacks] got the same {type(callback).__name__} twice, which would count double")
        _warn_of_misspelt(callback)
    return given


def _warn_of_misspelt(callback: Callback) -> None:
    """A hook that nobody calls is silent; so a name that is nearly one is worth a word."""
    for name in dir(type(callback)):
        if name.startswith("on_") and name not in HOOKS and name not in _OLD_NAMES.values():
            meant = get_close_matches(name, HOOKS, 1, 0.85)
            if meant:
                warnings.warn(
                    f"[callbacks] {type(callback).__name__}.{name} is never called; did you mean {meant[0]}?",
                    UserWarning,
                    stacklevel=6,
                )


def _method(callback: Callback, hook: str) -> str | None:
    """The name under which a callback has something to do at a hook, or None."""
    if overrides(callback, hook):
        return hook
    old = _OLD_NAMES.get(hook)
    return old if old is not None and callable(getattr(callback, old, None)) else None


def _checked(callback: Callback, hook: str) -> Callable[..., None]:
    """The method, if it takes what it will be called with: better said before a training than at an epoch's end."""
    function: Callable[..., None] = getattr(callback, hook)
    base = getattr(Callback, hook, Callback.on_train_batch_end).__code__
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    if code is not None and not code.co_flags & _MANY_ARGUMENTS:
        needed = code.co_argcount - len(function.__func__.__defaults__ or ())  # type: ignore[attr-defined]
        if not needed <= base.co_argcount <= code.co_argcount:
            expected = ", ".join(base.co_varnames[: base.co_argcount - 1])
            got = ", ".join(code.co_varnames[: code.co_argcount])
            raise TypeError(
                f"[callbacks] {type(callback).__name__}.{hook} takes ({got}), expected ({expected}, logs=None)"
            )
    return function


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments; True where nobody knows.

    >>> takes(lambda epoch: None, 2)
    False
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _call_all(functions: list[Callable[..., None]]) -> Callable[..., None]:
    if len(functions) == 1:
        return functions[0]

    def call(*args: Any) -> None:
        for function in functions:
            function(*args)

    return call


def _nothing(*args: Any) -> None:
    pass
