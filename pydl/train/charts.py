"""Charts of lines: a few panels with axes, ticks, a legend and marked points, as SVG written here or by matplotlib.

What is drawn is one description, Panel and Curve; the two renderers know nothing about trainings.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from pydl._atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BLUE", "COLORS", "GREY", "ORANGE", "Chart", "Curve", "Panel", "nice_ticks"]

BLUE, ORANGE, GREY = "#1f6fb4", "#d9662b", "#6b6b6b"
COLORS = (BLUE, ORANGE, "#3a8f5c", "#8d5bb0", "#b8483e", "#5c7f8f", "#a98b2d", "#444444")

_WIDTH, _HEIGHT = 460, 320  # of a panel, in SVG's pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 16, 34, 68
_DPI = 130


@dataclass
class Curve:
    """One line: where ``y`` is not finite it is broken. A ``label`` of "" is left out of the legend."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = BLUE
    dashed: bool = False


@dataclass
class Panel:
    """One pair of axes with its curves.

    Args:
        title, x_label, y_label: texts.
        curves: the lines.
        log_y: a logarithmic axis; values of 0 and less are left out.
        integer_x: ticks of x at whole numbers.
        x_names: names of the places 0, 1, 2, ... of x instead of numbers.
    """

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    log_y: bool = False
    integer_x: bool = False
    x_names: Sequence[str] = ()
    marks: list[tuple[float, float, str, str]] = field(default_factory=list)

    def mark(self, x: float, y: float, label: str, color: str = GREY) -> None:
        """A point with a dotted vertical line, and its entry in the legend."""
        self.marks.append((x, y, label, color))

    def points(self, curve: Curve) -> list[list[tuple[float, float]]]:
        """The unbroken pieces of a curve that can be drawn. Points that all stand alone, as of a validation every
        ten epochs, are joined."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(curve.x, curve.y, strict=True):
            if math.isfinite(y) and (y > 0 or not self.log_y):
                pieces[-1].append((float(x), float(y)))
            elif pieces[-1]:
                pieces.append([])
        pieces = [piece for piece in pieces if piece]
        alone = all(len(piece) == 1 for piece in pieces)
        return [[point for piece in pieces for point in piece]] if pieces and alone else pieces

    def limits(self, headroom: float = 0.0) -> tuple[float, float, float, float]:
        """The least and largest x and y with some room around them; y as its logarithm where the axis is one.

        ``headroom`` is the share of the height that stays free above the curves.
        """
        points = [point for curve in self.curves for piece in self.points(curve) for point in piece]
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [math.log10(y) if self.log_y else y for _, y in points] or [0.0, 1.0]
        room_x, room_y = _room(min(xs), max(xs), 0.02), _room(min(ys), max(ys), 0.06)
        bottom, top = min(ys) - room_y, max(ys) + room_y
        return min(xs) - room_x, max(xs) + room_x, bottom, top + (top - bottom) * headroom / (1 - headroom)


def _room(low: float, high: float, share: float) -> float:
    if high > low:
        return (high - low) * share
    return abs(high) * 0.1 or 0.5


def nice_ticks(low: float, high: float, count: int = 6, whole: bool = False) -> list[float]:
    """At most ``count`` round numbers, evenly spaced, within low and high.

    >>> nice_ticks(0.13, 0.94), nice_ticks(1, 10, whole=True)
    ([0.2, 0.4, 0.6, 0.8], [2.0, 4.0, 6.0, 8.0, 10.0])
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    size = 10.0 ** math.floor(math.log10(span / count))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = max(1.0, size * factor) if whole else size * factor
        if whole and step != int(step):
            continue
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= count:
            return [float(f"{i * step:.12g}") for i in range(first, last + 1)] or [float(round((low + high) / 2))]
    return [low, high]


def _log_ticks(low: float, high: float, count: int = 7) -> list[float]:
    """Powers of ten within 10**low and 10**high; where there are few of them, 2 and 5 times as well."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if high - low >= 2:
        step = max(1, math.ceil((last - first + 1) / count))
        return [10.0**k for k in range(first, last + 1, step)]
    found = [m * 10.0**k for k in range(first - 2, last + 2) for m in (1, 2, 5)]
    inside = [tick for tick in found if low <= math.log10(tick) <= high]
    return inside if len(inside) >= 2 else nice_ticks(10.0**low, 10.0**high, 5)


class Chart:
    """Panels side by side; ``save`` writes them, a notebook shows them.

    Args:
        panels: what is drawn.
        title: above them; default none.

    >>> chart = Chart([Panel("loss", "epoch", "loss", [Curve("training", [1, 2, 3], [3.0, 2.0, 1.5])])])
    >>> chart.svg.count("<polyline")
    1
    """

    def __init__(self, panels: Sequence[Panel], title: str = "") -> None:
        self.panels = list(panels)
        self.title = title
        count = len(self.panels)
        self.columns = max(1, count if count <= 3 else 2 if count == 4 else 3)
        self.rows = max(1, math.ceil(count / self.columns))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: ``.svg`` by itself; ``.png``, ``.pdf`` and what else matplotlib knows by matplotlib.

        Raises:
            ImportError: matplotlib is needed and missing.
            ValueError: matplotlib does not know the ending.
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending == ".svg":
            with atomic_write(path, "w") as file:
                file.write(self.svg)
            return
        try:
            figure = self.figure()
        except ImportError as error:
            raise ImportError(
                f"[Chart.save] {os.fspath(path)}: pictures other than .svg need matplotlib, which is not installed; "
                "pip install 'pydl[plot]', or give a path that ends in .svg"
            ) from error
        kinds = figure.canvas.get_supported_filetypes()
        if ending[1:] not in kinds:
            raise ValueError(f"[Chart.save] got {os.fspath(path)}, expected an ending among {', '.join(sorted(kinds))}")
        picture = io.BytesIO()
        figure.savefig(picture, format=ending[1:], dpi=_DPI)
        with atomic_write(path) as file:
            file.write(picture.getvalue())

    def _repr_svg_(self) -> str:
        return self.svg

    @property
    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        top = 34 if self.title else 0
        width, height = self.columns * _WIDTH, self.rows * _HEIGHT + top
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="DejaVu Sans, Verdana, Arial, sans-serif" font-size="11" '
            'fill="#222222">',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        if self.title:
            parts.append(_text(width / 2, 24, self.title, anchor="middle", size=15))
        for i, panel in enumerate(self.panels):
            x, y = (i % self.columns) * _WIDTH, (i // self.columns) * _HEIGHT + top
            parts.append(f'<g transform="translate({x},{y})">')
            parts += _svg_panel(panel)
            parts.append("</g>")
        return "\n".join([*parts, "</svg>", ""])

    def figure(self) -> Any:
        """The picture as a matplotlib ``Figure``.

        Raises:
            ImportError: matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("[Chart] needs matplotlib, which is not installed; pip install 'pydl[plot]'") from error
        figure = Figure(figsize=(4.6 * self.columns, 3.2 * self.rows + 0.3 * bool(self.title)), layout="constrained")
        if self.title:
            figure.suptitle(self.title, fontsize=12)
        for i, panel in enumerate(self.panels):
            _draw_panel(panel, figure.add_subplot(self.rows, self.columns, i + 1))
        return figure


def _draw_panel(panel: Panel, axes: Any) -> None:
    left, right, bottom, top = panel.limits()
    for curve in panel.curves:
        style = {"color": curve.color, "linestyle": "--" if curve.dashed else "-", "linewidth": 1.6}
        label = curve.label or None
        pieces = panel.points(curve)
        dots = _with_dots(pieces)
        for piece in pieces:
            xs, ys = zip(*piece)
            axes.plot(xs, ys, label=label, marker="o" if dots or len(piece) == 1 else None, markersize=3, **style)
            label = None
    for x, y, text, color in panel.marks:
        axes.axvline(x, color=color, linewidth=0.9, linestyle=":")
        axes.plot([x], [y], "o", color=color, markersize=7, markerfacecolor="none", linestyle="", label=text)
    if panel.log_y:
        from matplotlib.ticker import NullFormatter, NullLocator

        axes.set_yscale("log")
        ticks = _log_ticks(bottom, top)
        axes.set_yticks(ticks, [_tick_text(tick, ticks) for tick in ticks])
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        bottom, top = 10.0**bottom, 10.0**top
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    if panel.x_names:
        places = _named_places(panel)
        steep = max(len(panel.x_names[i]) for i in places) * len(places) > 50
        axes.set_xticks(places, [panel.x_names[i] for i in places], rotation=40 if steep else 0, fontsize=8)
        if steep:
            for label in axes.get_xticklabels():
                label.set_ha("right")
    elif panel.integer_x:
        axes.set_xticks([t for t in _x_ticks(panel, left, right) if left <= t <= right])
    axes.set_title(panel.title, fontsize=10)
    axes.set_xlabel(panel.x_label, fontsize=9)
    axes.set_ylabel(panel.y_label, fontsize=9)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=8)


class _Frame:
    """Where a panel's numbers are in its picture."""

    def __init__(self, panel: Panel, headroom: float = 0.0) -> None:
        self.log = panel.log_y
        self.left, self.right, self.bottom, self.top = panel.limits(headroom)
        self.width, self.height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at_x(self, x: float) -> float:
        return _LEFT + (x - self.left) / (self.right - self.left) * self.width

    def at_y(self, y: float) -> float:
        share = ((math.log10(y) if self.log else y) - self.bottom) / (self.top - self.bottom)
        return _TOP + self.height * (1 - share)


def _svg_panel(panel: Panel) -> list[str]:
    frame = _Frame(panel)
    legend = _Legend(panel)
    if legend.entries and legend.place(panel, frame)[2]:  # it would lie on a curve: more room for it
        frame = _Frame(panel, min(0.5, (legend.height + 8) / frame.height))
    left, right, bottom, top = frame.left, frame.right, frame.bottom, frame.top
    width, height, at_x, at_y = frame.width, frame.height, frame.at_x, frame.at_y
    floor = _TOP + height
    parts = [_text(_LEFT + width / 2, 20, panel.title, anchor="middle", size=13)]
    y_ticks = _log_ticks(bottom, top) if panel.log_y else nice_ticks(bottom, top)
    for tick in y_ticks:
        y = at_y(tick)
        parts.append(_line(_LEFT, y, _LEFT + width, y, "#e4e4e4"))
        parts.append(_text(_LEFT - 7, y + 4, _tick_text(tick, y_ticks), anchor="end"))
    steep = False
    if panel.x_names:
        places = _named_places(panel)
        steep = max(len(panel.x_names[i]) for i in places) * len(places) > 50
        for i in places:
            turn = f' transform="rotate(-35 {at_x(i):.1f} {floor + 14:.1f})"' if steep else ""
            anchor = "end" if steep else "middle"
            parts.append(_line(at_x(i), floor, at_x(i), floor + 4, "#333333"))
            parts.append(
                _text(at_x(i), floor + 16, panel.x_names[i], anchor=anchor, size=9 if steep else 11, more=turn)
            )
    else:
        ticks = _x_ticks(panel, left, right)
        for tick in ticks:
            parts.append(_line(at_x(tick), _TOP, at_x(tick), floor, "#e4e4e4"))
            parts.append(_line(at_x(tick), floor, at_x(tick), floor + 4, "#333333"))
            parts.append(_text(at_x(tick), floor + 17, _tick_text(tick, ticks), anchor="middle"))
    parts.append(_line(_LEFT, floor, _LEFT + width, floor, "#333333"))
    parts.append(_line(_LEFT, _TOP, _LEFT, floor, "#333333"))
    parts.append(_text(_LEFT + width / 2, _HEIGHT - (6 if steep else 30), panel.x_label, anchor="middle"))
    turn = f' transform="rotate(-90 16 {_TOP + height / 2:.1f})"'
    parts.append(_text(16, _TOP + height / 2, panel.y_label, anchor="middle", more=turn))
    for curve in panel.curves:
        parts += _svg_curve(panel, curve, frame)
    for x, y, _, color in panel.marks:
        parts.append(_line(at_x(x), _TOP, at_x(x), floor, color, dashes="2 3"))
        parts.append(_ring(at_x(x), at_y(y), color))
    return parts + legend.draw(panel, frame)


def _svg_curve(panel: Panel, curve: Curve, frame: _Frame) -> list[str]:
    parts = []
    pieces = panel.points(curve)
    dots = _with_dots(pieces)
    for piece in pieces:
        places = [(frame.at_x(x), frame.at_y(y)) for x, y in piece]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="6 4"' if curve.dashed else ""
        if len(piece) > 1:
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{curve.color}" stroke-width="2" '
                f'stroke-linejoin="round"{dashes}/>'
            )
        if dots or len(piece) == 1:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{curve.color}"/>' for x, y in places]
    return parts


def _with_dots(pieces: list[list[tuple[float, float]]]) -> bool:
    """Whether the points are few enough to be shown one by one."""
    return sum(map(len, pieces)) <= 12


class _Legend:
    """The names of curves and marks, in the corner that covers least."""

    def __init__(self, panel: Panel) -> None:
        self.entries: list[tuple[str, str, str]] = [
            (curve.label, curve.color, "dashed" if curve.dashed else "line") for curve in panel.curves if curve.label
        ]
        self.entries += [(text, color, "ring") for _, _, text, color in panel.marks if text]
        self.width = 38 + max((6.4 * len(text) for text, _, _ in self.entries), default=0.0)
        self.height = 17 * len(self.entries) + 6

    def place(self, panel: Panel, frame: _Frame) -> tuple[float, float, int]:
        """Its corner, and how many points of curves it covers."""
        taken = [
            (frame.at_x(x), frame.at_y(y)) for c in panel.curves for piece in panel.points(c) for x, y in _dense(piece)
        ]
        right, low = _WIDTH - _RIGHT - self.width - 4, _HEIGHT - _BOTTOM - self.height - 4.0
        middle = (_LEFT + _WIDTH - _RIGHT - self.width) / 2
        corners = [(x, y) for y in (_TOP + 4.0, low) for x in (right, _LEFT + 6.0, middle)]
        corners += [(x, (_TOP + low) / 2) for x in (right, _LEFT + 6.0)]

        def covered(corner: tuple[float, float]) -> int:
            across = range(round(corner[0]) - 4, round(corner[0] + self.width) + 5)
            down = range(round(corner[1]) - 4, round(corner[1] + self.height) + 5)
            return sum(round(x) in across and round(y) in down for x, y in taken)

        x, y = min(corners, key=covered)
        return x, y, covered((x, y))

    def draw(self, panel: Panel, frame: _Frame) -> list[str]:
        if not self.entries:
            return []
        x, y, _ = self.place(panel, frame)
        size = f'width="{self.width:.1f}" height="{self.height}"'
        parts = [f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="#ffffff" fill-opacity="0.85"/>']
        for i, (text, color, kind) in enumerate(self.entries):
            line = y + 14 + 17 * i
            if kind == "ring":
                parts.append(_ring(x + 17, line - 4, color))
            else:
                parts.append(_line(x + 6, line - 4, x + 28, line - 4, color, 2, "6 4" if kind == "dashed" else ""))
            parts.append(_text(x + 34, line, text))
        return parts


def _dense(piece: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points and some between them, so that a long line counts where it passes."""
    between = [
        (a[0] + (b[0] - a[0]) * k / 8, a[1] + (b[1] - a[1]) * k / 8) for a, b in pairwise(piece) for k in range(8)
    ]
    return between + piece[-1:]


def _x_ticks(panel: Panel, left: float, right: float) -> list[float]:
    ticks = nice_ticks(left, right, 8, whole=panel.integer_x)
    first = min((x for curve in panel.curves for x in curve.x), default=left)
    if panel.integer_x and first == 1 and ticks and ticks[0] > 2:
        ticks.insert(0, 1.0)
    return ticks


def _named_places(panel: Panel) -> list[int]:
    step = max(1, math.ceil(len(panel.x_names) / 16))
    return list(range(0, len(panel.x_names), step))


def _tick_text(tick: float, ticks: Sequence[float]) -> str:
    largest = max(map(abs, ticks))
    if tick == 0:
        return "0"
    if largest >= 1e8 or min(abs(t) for t in ticks if t) < 1e-4:
        # As few digits as keep them apart.
        digits = next((d for d in range(12) if len({f"{t:.{d}e}" for t in ticks}) == len(set(ticks))), 12)
        return f"{tick:.{digits}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{tick:.9g}".replace("-", "−")


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1, dashes: str = "") -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"{dash}/>'
    )


def _ring(x: float, y: float, color: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="none" stroke="{color}" stroke-width="1.6"/>'
