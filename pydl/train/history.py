"""History: what every epoch of a training gave, as lists, a CSV file and a picture."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from pydl._atomic import atomic_write
from pydl.callbacks.base import Callback
from pydl.callbacks.monitor import larger_is_better

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from pydl.callbacks.base import Logs
    from pydl.train.charts import Chart

__all__ = ["History", "as_number", "best_index", "read_table", "table"]

_RATES = ("lr", "learning_rate")


class History(Callback):
    """What ``fit`` returns: a list for each logged number, one entry for each epoch.

    Attributes:
        history: name -> list, such as ``{"loss": [2.3, 1.1], "val_loss": [2.4, 1.3], "lr": [0.01, 0.01]}``. An epoch
            that did not log a number has NaN there.
        epoch: the epochs' numbers, from 0.

    >>> history = History()
    >>> history.on_epoch_end(0, {"loss": 2.0, "val_loss": 2.5})
    >>> history.on_epoch_end(1, {"loss": 1.0, "val_loss": 1.5})
    >>> history["loss"], history.epoch, history.best_epoch()
    ([2.0, 1.0], [0, 1], 1)
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Take an epoch's numbers; an epoch that was there already, and those after it, are replaced."""
        numbers = {
            name: value for name, value in ((n, as_number(v)) for n, v in (logs or {}).items()) if value is not None
        }
        self.cut(epoch)
        for name in numbers:
            self.history.setdefault(name, [math.nan] * len(self.epoch))
        for name, values in self.history.items():
            values.append(numbers.get(name, math.nan))
        self.epoch.append(epoch)

    def cut(self, epoch: int) -> None:
        """Drop this epoch and those after it."""
        while self.epoch and self.epoch[-1] >= epoch:
            self.epoch.pop()
            for values in self.history.values():
                values.pop()

    def __getitem__(self, name: str) -> list[float]:
        try:
            return self.history[name]
        except KeyError:
            raise KeyError(f"[History] has no {name!r}; it has {', '.join(self.history) or 'nothing yet'}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.history

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.epoch)

    def keys(self) -> Any:
        """The names of the numbers."""
        return self.history.keys()

    def __repr__(self) -> str:
        return f"History({len(self.epoch)} epochs of {', '.join(self.history) or 'nothing'})"

    def best_epoch(self, monitor: str | None = None, mode: str = "auto") -> int | None:
        """The epoch, from 0, with the best value; the first of equal ones, None where there is none.

        Args:
            monitor: default ``"val_loss"`` where there is one, else ``"loss"``.
            mode: ``"min"``, ``"max"`` or ``"auto"`` (default), which goes by the name.

        Raises:
            KeyError: there is no such number.
        """
        index = best_index(self[monitor or self._default_monitor()], monitor or self._default_monitor(), mode)
        return None if index is None else self.epoch[index]

    def _default_monitor(self) -> str:
        return "val_loss" if "val_loss" in self.history else "loss"

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a row for each epoch, and the epoch (from 0) as its first column.

        Numbers have as many digits as it takes to read the same ones back.
        """
        with atomic_write(path, "w") as file:
            file.write(table(self._rows()))

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"epoch": epoch, **{name: values[i] for name, values in self.history.items()}}
            for i, epoch in enumerate(self.epoch)
        ]

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what :meth:`to_csv` or :class:`pydl.callbacks.CSVLogger` has written, whatever its separator.

        Raises:
            ValueError: it is no such table; names the file and the line.
            OSError: it cannot be opened.
        """
        history = cls()
        lines = read_table(path)
        if not lines or "epoch" not in lines[0]:
            raise ValueError(f"[History.from_csv] {path}: got no column 'epoch', expected a table of History.to_csv")
        names = lines[0]
        history.history = {name: [] for name in names if name != "epoch"}
        for number, cells in enumerate(lines[1:], 2):
            try:
                row = dict(zip(names, cells, strict=True))
                epoch = int(row.pop("epoch"))
                values = {name: float(cell) if cell else math.nan for name, cell in row.items()}
            except ValueError:
                raise ValueError(
                    f"[History.from_csv] {path}, line {number}: got {','.join(cells)!r}, expected {len(names)} numbers"
                ) from None
            history.epoch.append(epoch)
            for name, value in values.items():
                history.history[name].append(value)
        return history

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        metrics: Sequence[str] | str | None = None,
        *,
        monitor: str | None = None,
        title: str = "",
    ) -> Chart:
        """Draw the curves of training and validation, a panel for each metric, with the best epoch marked.

        Epochs count from 1 here, as people do.

        Args:
            path: where to write it; ``.svg`` needs nothing, ``.png`` and ``.pdf`` need matplotlib. Default nowhere.
            metrics: names, with ``val_`` or without; default all but the learning rate, drawn when it is named.
            monitor: what tells the best epoch; default ``"val_loss"``, or ``"loss"`` where there is none.
            title: above the panels; default none.

        Returns:
            A :class:`pydl.train.charts.Chart`, which a notebook shows.

        Raises:
            ValueError: there is no epoch yet, or no such metric.
            ImportError: the ending of ``path`` needs matplotlib, which is missing.

        >>> history = History()
        >>> for epoch in range(3):
        ...     history.on_epoch_end(epoch, {"loss": 1 / (epoch + 1), "val_loss": 1.2 / (epoch + 1)})
        >>> history.plot().svg[:4]
        '<svg'
        """
        from pydl.train.charts import Chart

        chart = Chart([self._panel(name, monitor) for name in self._metrics(metrics)], title=title)
        if path is not None:
            chart.save(path)
        return chart

    def _metrics(self, metrics: Sequence[str] | str | None) -> list[str]:
        known = list(dict.fromkeys(name.removeprefix("val_") for name in self.history))
        if metrics is None:
            chosen = [name for name in known if name not in _RATES]
        else:
            given = [metrics] if isinstance(metrics, str) else list(metrics)
            chosen = list(dict.fromkeys(str(name).removeprefix("val_") for name in given))
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise ValueError(f"[History.plot] got the metrics {unknown}, expected some of {', '.join(known)}")
        if not self.epoch or not chosen:
            raise ValueError("[History.plot] there is nothing to draw yet; train for an epoch first")
        return chosen

    def _panel(self, name: str, monitor: str | None) -> Any:
        from pydl.train.charts import BLUE, GREY, ORANGE, Curve, Panel

        epochs = [epoch + 1 for epoch in self.epoch]
        curves = []
        for key, label, color in ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE)):
            if key in self.history:
                label = name if name in _RATES else label
                curves.append(Curve(label, epochs, self.history[key], color=color))
        panel = Panel(name, "epoch", name, curves, integer_x=True, log_y=name in _RATES and _spans(self.history[name]))
        monitor = monitor or self._default_monitor()
        best = best_index(self[monitor], monitor)
        if best is not None and len(self.epoch) > 1 and name not in _RATES:
            key = f"val_{name}" if f"val_{name}" in self.history else name
            value, epoch = self.history[key][best], epochs[best]
            if math.isfinite(value):
                what = f"best: {value:.4g}" if key == monitor else f"{value:.4g} at best {monitor}"
                panel.mark(epoch, value, f"{what} (epoch {epoch})", GREY)
        return panel

    def state_dict(self) -> dict[str, Any]:
        """Epochs and lists; NaN and infinities are texts, which JSON has no numbers for."""
        return {
            "epoch": list(self.epoch),
            "history": {n: [v if math.isfinite(v) else str(v) for v in vs] for n, vs in self.history.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.epoch = [int(epoch) for epoch in state["epoch"]]
        self.history = {name: [float(v) for v in values] for name, values in state["history"].items()}


def best_index(values: Sequence[float], name: str, mode: str = "auto") -> int | None:
    """Where the best of some values is; NaN never is, and of equal ones it is the first.

    >>> best_index([3.0, float("nan"), 1.0, 1.0], "val_loss")
    2
    """
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"[History] got mode={mode!r}, expected 'auto', 'min' or 'max'")
    largest = larger_is_better(name) if mode == "auto" else mode == "max"
    counted = [(value, i) for i, value in enumerate(values) if not math.isnan(value)]
    if not counted:
        return None
    return min(counted, key=lambda pair: (-pair[0] if largest else pair[0], pair[1]))[1]


def table(rows: Sequence[Mapping[str, Any]], separator: str = ",") -> str:
    """Rows as a CSV text: the columns are all names in the order of their coming, missing numbers are empty cells.

    >>> print(table([{"epoch": 0, "loss": 0.1}, {"epoch": 1, "loss": 0.05, "val_loss": 2.0}]), end="")
    epoch,loss,val_loss
    0,0.1,
    1,0.05,2.0
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue()


def read_table(path: str | os.PathLike[str], separator: str | None = None) -> list[list[str]]:
    """The cells of a file's lines; the default separator is what follows ``epoch`` in the first one, or a comma.

    A file that is no text gives cells that are no numbers.
    """
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        text = file.read().replace("\0", "?")
    if separator is None:
        after = text[5:6] if text.startswith("epoch") else ""
        separator = after if after.isascii() and after.strip("\r\n") and not after.isalnum() else ","
    return list(csv.reader(text.splitlines(), delimiter=separator))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def as_number(value: Any) -> float | None:
    """A plain number, or None: matrices and texts have no place in a curve."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _spans(values: Sequence[float]) -> bool:
    """Whether positive values differ so much that a logarithmic axis shows more."""
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= 30
