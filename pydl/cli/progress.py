"""A progress bar on stderr: one line that is drawn over on a terminal, a plain line every few seconds elsewhere.

A bar of our own in a hundred lines is what a bare installation has; so there is one way it looks.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TextIO

_DRAW_SECONDS = 0.1
_PLAIN_SECONDS = 10.0
_RATE_SECONDS = 3.0  # over which the speed is averaged


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be drawn over there."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def use_color(stream: TextIO) -> bool:
    """Whether colours are wanted there; https://no-color.org."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def format_seconds(seconds: float) -> str:
    """A time as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def format_count(count: float) -> str:
    """A number to three digits: 987, 12.3k, 4.56M.

    >>> [format_count(n) for n in (7, 1234, 56789, 1.5e6)]
    ['7', '1.23k', '56.8k', '1.5M']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= limit:
            return f"{float(f'{count / limit:.3g}'):g}{unit}"
    return f"{count:.3g}"


class ProgressBar:
    """Shows how far `total` units of work have come, how fast, and what is left.

    Args:
        total: units of work.
        done: how many of them were done before.
        scale, unit: what the speed is counted in: `scale` of `unit` for each unit of work.
        stream: where to draw; default stderr.
    """

    def __init__(
        self, total: int, done: int = 0, *, scale: float = 1.0, unit: str = "it", stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._done = done
        self._scale, self._unit = scale, unit
        self._live = is_terminal(self._stream)
        self._color = use_color(self._stream)
        encoding = (self._stream.encoding or "ascii").lower().replace("-", "")
        self._full, self._rest = ("█", "░") if encoding.startswith("utf") else ("#", ".")
        self._next_draw = time.monotonic() + (0.0 if self._live else _PLAIN_SECONDS)
        self._marks = [(time.monotonic(), done)]  # for the speed
        self._drawn = False

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
        parts = [f"{self._done:,}/{self._total:,}"]
        if status:
            parts.append(status)
        if rate > 0:
            parts.append(f"{format_count(rate * self._scale)} {self._unit}/s")
            parts.append(f"{format_seconds((self._total - self._done) / rate)} left")
        text = "  ".join(parts)
        share = self._done / self._total if self._total else 1.0
        if not self._live:
            self._stream.write(f"{share:4.0%}  {text}\n")
            self._stream.flush()
            return
        columns = shutil.get_terminal_size().columns - 1
        width = max(0, min(30, columns - len(text) - 8))
        full = int(share * width)
        bar = self._full * full, self._rest * (width - full)
        line = f"{share:4.0%} {bar[0]}{bar[1]} {text}"[:columns]
        if self._color and width:
            line = line.replace(bar[0], f"\x1b[32m{bar[0]}\x1b[0m", 1) if full else line
        self._stream.write(f"\r\x1b[2K{line}")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Takes the bar away, so that other lines can be written; the next update draws it again."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._drawn = False
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
