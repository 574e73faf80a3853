"""CSVLogger: the logs of every epoch in a CSV file, which a resumed training goes on with."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydl._atomic import atomic_write
from pydl.callbacks.base import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl.callbacks.base import Logs

__all__ = ["CSVLogger"]


class CSVLogger(Callback):
    """Writes a row for each epoch (numbered from 0, as in Keras); the file is whole after each of them.

    A resumed training drops the rows of epochs after the point where it goes on, and appends: the file ends up the
    same as if nothing had happened. A number that comes later than others makes a new column, empty above. What is no
    number, such as a confusion matrix, is left out.

    Args:
        filename: the file; its folder is made.
        separator: between cells; default ``","``.
        append: keep the rows that the file has of earlier trainings; default False, they are replaced. Where this
            training starts after epoch 0, rows of epochs that it does again are dropped.

    Raises:
        ValueError: ``append``, and the file is no table with a column ``epoch``; the separator is no single character.

    >>> import os, tempfile
    >>> from pydl.callbacks import CSVLogger, History
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(os.path.join(folder, "log.csv"))
    ...     logger.on_train_begin()
    ...     logger.on_epoch_end(0, {"loss": 0.5})
    ...     print(History.from_csv(logger.filename)["loss"])
    [0.5]
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"[CSVLogger] got separator={separator!r}, expected one character")
        self.filename = os.fspath(filename)
        if os.path.isdir(self.filename):
            raise ValueError(f"[CSVLogger] {self.filename} is a folder, expected the path of a file")
        self.separator = separator
        self.append = append
        self._rows: list[dict[str, Any]] = []
        self._kept = 0  # how many of them are of earlier trainings
        self._resumed = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Take over the rows that stay."""
        first = getattr(self.trainer, "epoch", None) or 0
        if not self._resumed:
            self._rows = self._read() if self.append and os.path.exists(self.filename) else []
            if first:
                self._kept = 0
                self._cut(first)
            self._kept = len(self._rows)
        self._resumed = False
        self._cut(first)
        Path(self.filename).parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Add a row."""
        self._cut(epoch)
        from pydl.train.history import as_number

        numbers = {name: as_number(value) for name, value in (logs or {}).items()}
        self._rows.append({"epoch": epoch, **{name: value for name, value in numbers.items() if value is not None}})
        self._write()

    def _cut(self, epoch: int) -> None:
        while len(self._rows) > self._kept and int(self._rows[-1]["epoch"]) >= epoch:
            self._rows.pop()

    def _write(self) -> None:
        from pydl.train.history import table

        with atomic_write(self.filename, "w") as file:
            file.write(table(self._rows, self.separator) if self._rows else "")

    def _read(self) -> list[dict[str, Any]]:
        from pydl.train.history import read_table

        lines = read_table(self.filename, self.separator)
        if not lines:
            return []
        names = lines[0]
        rows = [dict(zip(names, cells)) for cells in lines[1:] if len(cells) == len(names)]
        if "epoch" not in names or not all(row["epoch"].isdecimal() for row in rows):
            raise ValueError(
                f"[CSVLogger] {self.filename}: got no column 'epoch' of numbers, expected a table that CSVLogger wrote;"
                " give another file, or append=False to replace it"
            )
        return [{**row, "epoch": int(row["epoch"])} for row in rows]

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, as texts, so that they come back with the same digits."""
        from pydl.train.history import table

        rows = list(csv.reader(table(self._rows).splitlines())) if self._rows else []
        return {"rows": rows, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; what the file has since then is dropped."""
        names, *lines = state["rows"] or [["epoch"]]
        self._kept = int(state["kept"])
        self._rows = [{**dict(zip(names, cells)), "epoch": int(cells[names.index("epoch")])} for cells in lines]
        self._resumed = True
