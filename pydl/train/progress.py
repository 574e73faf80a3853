"""A progress bar: one line that is drawn over on a terminal or in a notebook, a plain line every few seconds elsewhere.

A bar of our own in some hundred lines is what a bare installation has; so there is one way it looks, for the command
line and for ``fit``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

__all__ = [
    "Bar",
    "format_count",
    "format_duration",
    "format_seconds",
    "format_value",
    "in_notebook",
    "is_live",
    "is_terminal",
    "say",
    "use_color",
]

_DRAW_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
_RATE_SECONDS = 3.0  # over which the speed is averaged
_NOTEBOOK_COLUMNS = 110
_MOST_CELLS, _LEAST_CELLS = 30, 8  # of the bar itself


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be drawn over there."""
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM", "") != "dumb"


def in_notebook(stream: TextIO) -> bool:
    """Whether the stream is the output of a notebook's cell, which can draw over its line but is no terminal."""
    return type(stream).__module__.split(".")[0] == "ipykernel"


def is_live(stream: TextIO) -> bool:
    """Whether a line can be drawn over there, on a terminal or in a notebook."""
    return is_terminal(stream) or in_notebook(stream)


def use_color(stream: TextIO) -> bool:
    """Whether colours are wanted there; https://no-color.org."""
    return is_live(stream) and not os.environ.get("NO_COLOR")


def format_seconds(seconds: float) -> str:
    """A time as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def format_duration(seconds: float) -> str:
    """A time to two digits or more: 23ms, 1.8s, 12:34.

    >>> [format_duration(s) for s in (0.0234, 1.84, 75.0)]
    ['23ms', '1.8s', '1:15']
    """
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 59.95 else format_seconds(seconds)


def format_count(count: float) -> str:
    """A number to three digits: 987, 12.3k, 4.56M.

    >>> [format_count(n) for n in (7, 1234, 56789, 1.5e6)]
    ['7', '1.23k', '56.8k', '1.5M']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{float(f'{count / limit:.3g}'):g}{unit}"
    return f"{count:.3g}"


def format_value(name: str, value: float) -> str:
    """A logged number with its name; those of one size have one width.

    >>> format_value("loss", 0.31249), format_value("loss", 2.5e-5), format_value("lr", 0.001)
    ('loss 0.3125', 'loss 2.500e-05', 'lr 0.001')
    """
    if name in ("lr", "learning_rate"):
        return f"{name} {value:.4g}"
    return f"{name} {value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{name} {value:.3e}"


def _columns(stream: TextIO) -> int:
    """The width of the line: COLUMNS, that of the stream's terminal, or a usual one."""
    if in_notebook(stream) and not os.environ.get("COLUMNS"):
        return _NOTEBOOK_COLUMNS
    if not os.environ.get("COLUMNS"):
        try:
            return os.get_terminal_size(stream.fileno()).columns or 80
        except (OSError, ValueError, AttributeError):
            pass
    return shutil.get_terminal_size().columns


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line where a bar may be drawn; the bar's next update draws it again."""
    out = stream or sys.stdout
    if is_terminal(out):
        text = f"\r\x1b[2K{text}"
    elif in_notebook(out):
        text = "\r" + " " * _NOTEBOOK_COLUMNS + "\r" + text
    out.write(text + "\n")
    out.flush()


class Bar:
    """Shows how far `total` units of work have come, how fast, and what is left.

    Args:
        total: units of work, or None where nobody knows.
        done: how many of them were done before.
        scale, unit: what the speed is counted in: `scale` of `unit` for each unit of work.
        label: what stands before it.
        stream: where to draw; default stderr.
    """

    def __init__(
        self,
        total: int | None,
        done: int = 0,
        *,
        scale: float = 1.0,
        unit: str = "it",
        label: str = "",
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._done = done
        self._scale, self._unit, self._label = scale, unit, label
        self._live = is_live(self._stream)
        self._escapes = is_terminal(self._stream)
        self._color = use_color(self._stream)
        encoding = (getattr(self._stream, "encoding", None) or "ascii").lower().replace("-", "")
        self._full, self._rest = ("█", "░") if encoding.startswith("utf") else ("#", ".")
        self._next_draw = time.monotonic() + (0.0 if self._live else _PLAIN_SECONDS)
        self._marks = [(time.monotonic(), done)]  # for the speed
        self._drawn = 0  # characters on the line

    def is_due(self) -> bool:
        """Whether the next update would draw."""
        return time.monotonic() >= self._next_draw

    def update(self, done: int, status: str = "") -> None:
        """Tells how much is done; draws when it is time to."""
        self._done = done
        now = time.monotonic()
        if now >= self._next_draw:
            self.draw(status, now)

    def draw(self, status: str = "", now: float | None = None) -> None:
        """Draws now."""
        now = time.monotonic() if now is None else now
        self._next_draw = now + (_DRAW_SECONDS if self._live else _PLAIN_SECONDS)
        rate = self._rate(now)
        share = None if self._total is None else self._done / self._total if self._total else 1.0
        before = " ".join(filter(None, (self._label, "" if share is None else f"{share:4.0%}")))
        count = f"{self._done:,}" if self._total is None else f"{self._done:,}/{self._total:,}"
        speed = f"{format_count(rate * self._scale)} {self._unit}/s" if rate > 0 else ""
        left = f"{format_seconds((self._total - self._done) / rate)} left" if rate > 0 and self._total else ""
        if not self._live:
            self._stream.write("  ".join(filter(None, (before, count, status, speed, left))) + "\n")
            self._stream.flush()
            return
        columns = _columns(self._stream) - 1
        # What a narrow line does without, in this order: the speed, the status, the count.
        for parts in ((count, status, speed, left), (count, status, left), (count, left), (left,)):
            text = "  ".join(filter(None, parts))
            room = columns - len(before) - len(text) - 2
            if room >= 0:
                break
        cells = min(_MOST_CELLS, room) if share is not None else 0
        cells = cells if cells >= _LEAST_CELLS else 0
        full = int((share or 0) * cells)
        bar = self._full * full + self._rest * (cells - full)
        line = " ".join(filter(None, (before, bar, text)))[:columns]
        self._write(line, full)

    def _write(self, line: str, full: int) -> None:
        shown = line
        if self._color and full:
            shown = line.replace(self._full * full, f"\x1b[32m{self._full * full}\x1b[0m", 1)
        if self._escapes:
            self._stream.write(f"\r\x1b[2K{shown}")
        else:
            self._stream.write("\r" + shown + " " * max(0, self._drawn - len(line)))
        self._stream.flush()
        self._drawn = len(line)

    def clear(self) -> None:
        """Takes the bar away, so that other lines can be written; the next update draws it again."""
        if self._drawn:
            self._stream.write("\r\x1b[2K" if self._escapes else "\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0
            self._next_draw = 0.0

    def pause(self) -> None:
        """Work of another kind has been done since the last update; the speed does not count it."""
        self._marks = [(time.monotonic(), self._done)]

    def _rate(self, now: float) -> float:
        begin, done = self._marks[0]
        rate = (self._done - done) / (now - begin) if now > begin else 0.0
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and self._marks[1][0] < now - _RATE_SECONDS:
            del self._marks[0]
        return rate
