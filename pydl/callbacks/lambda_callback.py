"""LambdaCallback: a callback made of functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl.callbacks.base import HOOKS, Callback, takes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LambdaCallback"]


class LambdaCallback(Callback):
    """Calls the functions that it is given.

    Args:
        on_epoch_begin, on_epoch_end: functions of (epoch, logs).
        on_train_begin, on_train_end: functions of (logs).
        on_train_batch_begin, on_train_batch_end: functions of (batch, logs).
        hooks: functions for the other hooks of :class:`Callback`, such as ``on_test_end``.

    Raises:
        TypeError: a hook that does not exist, or something that cannot be called.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch + 1, logs["loss"])).on_epoch_end(0, {"loss": 2.0})
    1 2.0
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
        **hooks: Callable[..., Any] | None,
    ) -> None:
        named = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in {**hooks, **named}.items():
            if name not in HOOKS:
                raise TypeError(f"[LambdaCallback] got {name!r}, expected one of {', '.join(HOOKS)}")
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"[LambdaCallback] got {name}={function!r}, expected a function")
            _, *wanted = getattr(Callback, name).__code__.co_varnames
            if not takes(function, len(wanted)):
                shape = ", ".join(wanted)
                raise TypeError(f"[LambdaCallback] got {name}={function!r}, expected a function of ({shape})")
            setattr(self, name, function)
