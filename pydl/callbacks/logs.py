"""LazyLogs: logs that are computed when somebody looks at them."""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["LazyLogs", "call_with_logs"]


def call_with_logs(
    hook: Callable[[int, dict[str, Any]], None], batch: int, make: Callable[[], Mapping[str, Any]]
) -> None:
    """``hook(batch, logs)`` with logs that are made when they are read, or afterwards if the hook has kept them.

    >>> kept = []
    >>> call_with_logs(lambda batch, logs: kept.append(logs), 0, lambda: print("computed") or {"loss": 0.5})
    computed
    """
    logs = LazyLogs(make)
    hook(batch, logs)
    if getrefcount(logs) > 2:  # this name, the call's argument, and somebody else
        len(logs)


class LazyLogs(dict[str, Any]):
    """A dict that is filled at its first use, so that a callback at each batch pays for what it reads.

    Args:
        make: gives the numbers; called once at most.

    >>> logs = LazyLogs(lambda: print("computed") or {"loss": 0.5})
    >>> logs["loss"], logs.get("accuracy"), {**logs}
    computed
    (0.5, None, {'loss': 0.5})
    """

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__()
        self._make: Callable[[], Mapping[str, Any]] | None = make

    def _fill(self) -> None:
        if self._make is not None:
            make, self._make = self._make, None
            for name, value in make().items():
                super().setdefault(name, value)  # what was set before stays

    def __missing__(self, name: str) -> Any:
        if self._make is None:
            raise KeyError(name)
        self._fill()
        return self[name]

    def __contains__(self, name: object) -> bool:
        self._fill()
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._fill()
        return super().__eq__(other)

    __hash__ = None

    def __repr__(self) -> str:
        self._fill()
        return super().__repr__()

    def get(self, name: str, default: Any = None) -> Any:
        """The number, or the default."""
        self._fill()
        return super().get(name, default)

    def keys(self) -> Any:
        """The names."""
        self._fill()
        return super().keys()

    def values(self) -> Any:
        """The numbers."""
        self._fill()
        return super().values()

    def items(self) -> Any:
        """Names and numbers."""
        self._fill()
        return super().items()

    def copy(self) -> dict[str, Any]:
        """A plain dict."""
        return dict(self.items())
