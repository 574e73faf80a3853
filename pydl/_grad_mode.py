"""Whether what is done is recorded: no_grad and its like, for a with block or as decorators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydl import _C

if TYPE_CHECKING:
    from collections.abc import Callable


class _GradMode:
    """Sets recording for a with block or, as a decorator, for a function."""

    _enabled = False

    def __enter__(self) -> None:
        before = self.__dict__.setdefault("_before", [])
        before.append(_C.is_grad_enabled())
        _C.set_grad_enabled(self._enabled)

    def __exit__(self, *_: Any) -> None:
        _C.set_grad_enabled(self._before.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from functools import wraps

        kind = type(self)
        enabled = self._enabled

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            mode = kind.__new__(kind)
            mode._enabled = enabled
            with mode:
                return function(*args, **kwargs)

        return wrapped

    _before: list[Any]


class NoGrad(_GradMode):
    """Nothing is recorded inside: ``with pydl.no_grad(): ...`` or ``@pydl.no_grad()``."""

    def __new__(cls, function: Any = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)


class EnableGrad(_GradMode):
    """Recording is on inside, also within no_grad."""

    _enabled = True


class SetGradEnabled(_GradMode):
    """Recording is set at once, and back at the end of a with block."""

    def __init__(self, mode: bool) -> None:
        self._enabled = mode
        self._before = [_C.is_grad_enabled()]
        _C.set_grad_enabled(mode)

    def __enter__(self) -> None:
        _C.set_grad_enabled(self._enabled)
