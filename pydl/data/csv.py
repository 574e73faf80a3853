"""CSV: a table of numbers and categories as arrays, read by the standard csv, or by pandas where that is quicker."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl.data.dataset import ArrayDataset

__all__ = ["CSVDataset"]

_MISSING = frozenset(["", "?", "-", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "<NA>"])
_PANDAS_FROM = 8 << 20  # bytes of a file from which pandas is worth its import
Fill = float | str | None


class _Table:
    """The cells of a file: the names of the columns, their cells as text, and the line that each row begins at."""

    def __init__(self, path: Path, names: list[str], columns: list[list[str]], lines: Sequence[int]) -> None:
        self.path = path
        self.names = names
        self.columns = dict(zip(names, columns))
        self.lines = lines

    def where(self, row: int, name: str) -> str:
        return f"[CSVDataset] {self.path}: line {self.lines[row]} (row {row + 1}), column {name!r}"


def _read(path: Path, delimiter: str, header: bool, encoding: str) -> _Table:
    try:
        with open(path, newline="", encoding=encoding) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
            lines, rows = [], []
            start = 1
            for row in reader:
                if row and (len(row) > 1 or row[0].strip()):  # blank lines are passed over
                    lines.append(start)
                    rows.append(row)
                start = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ValueError(
            f"[CSVDataset] {path}: not {encoding} (byte 0x{error.object[error.start]:02x} at offset {error.start});"
            " give the encoding, for example encoding='latin-1'"
        ) from None
    except csv.Error as error:
        raise ValueError(f"[CSVDataset] {path}: line {start}: {error}") from None
    if not rows:
        raise ValueError(f"[CSVDataset] {path}: the file is empty, expected rows")
    width = len(rows[0])
    for line, row in zip(lines, rows):
        if len(row) != width:
            raise ValueError(
                f"[CSVDataset] {path}: line {line} has {len(row)} fields, expected {width} as in line {lines[0]};"
                f" the delimiter is {delimiter!r}"
            )
    names = _names(path, rows[0], header)
    rows, lines = (rows[1:], lines[1:]) if header else (rows, lines)
    if not rows:
        raise ValueError(f"[CSVDataset] {path}: there is a header and no row below it, expected rows")
    return _Table(path, names, [[cell.strip() for cell in column] for column in zip(*rows)], lines)


def _read_pandas(path: Path, delimiter: str, header: bool, encoding: str) -> _Table | None:
    """The same through pandas; None where there is no pandas, or something that only csv can name the place of."""
    try:
        import pandas  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    try:
        frame = pandas.read_csv(
            path, sep=delimiter, header=None, dtype=str, keep_default_na=False, na_filter=True, na_values=[],
            encoding=encoding, skipinitialspace=True, skip_blank_lines=True,
        )  # fmt: skip
    except Exception:
        return None
    if frame.isna().to_numpy().any() or len(frame) <= header:
        return None
    columns = [[cell.strip() for cell in frame[name]] for name in frame.columns]
    names = _names(path, [column[0] for column in columns], header)
    skipped = int(header)
    return _Table(path, names, [column[skipped:] for column in columns], range(1 + skipped, 1 + len(frame)))


def _names(path: Path, first: list[str], header: bool) -> list[str]:
    names = [name.strip() for name in first] if header else [f"column {i}" for i in range(len(first))]
    for i, name in enumerate(names):
        if name in names[:i] or not name:
            raise ValueError(
                f"[CSVDataset] {path}: column {i} of the header is {name!r}, expected names that differ and are not"
                " empty; header=False if the first line is data"
            )
    return names


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


class CSVDataset(ArrayDataset):
    """The rows of a CSV file: ``(x, y)`` with a target, ``(x,)`` without.

    A column is numeric where all its cells are numbers, and categorical otherwise. Numeric columns come as they are,
    categorical ones one-hot, a column of x for each category, in sorted order.

    Args:
        path: the file.
        target: name or position of the target column (-1 is the last), or a list of numeric ones. A text column
            becomes class indices, int64, with the names in ``classes``; integers become int64, other numbers float32.
        columns: the columns of x, names or positions. Default: all but the target.
        drop: columns to be left out.
        categorical: columns that are categories although their cells are numbers.
        target_type: "class" makes class indices of numbers, "number" float32 of integers. Default None: as above.
        fill: what stands for a missing cell: a number, "mean", "median" or "most_frequent" (of the column), or a dict
            of these by column. Default None: a missing cell is an error. A missing target always is.
        missing: what counts as missing. Default: empty, "?", "-", "NA", "N/A", "NaN", "null", "None" and the like.
        like: another CSVDataset whose columns, categories, classes and fills are used: the training part, for a
            test file. The options above are then its own.
        delimiter: default ",".
        header: whether the first line has the names. Default True; otherwise they are "column 0" ...
        encoding: default UTF-8, with or without a byte order mark.

    Attributes:
        x: float32, (N, F).
        y: (N,) or (N, K), or None.
        feature_names: what each column of x is, "age" or "colour=red".
        categories: by categorical column, its categories in order.
        classes: the classes of a text target in the order of their indices, or None.

    Raises:
        OSError: the file can't be read.
        ValueError: a missing or bad cell, with its line and column; rows of different lengths; no such column; a
            category that ``like`` has not seen; an empty file.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("size,colour,kind\\n1.5,red,cat\\n2,blue,dog\\n")
    ...     file.flush()
    ...     data = CSVDataset(file.name, target="kind")
    >>> data.feature_names, data.x.tolist(), data.y.tolist(), data.classes
    (['size', 'colour=blue', 'colour=red'], [[1.5, 0.0, 1.0], [2.0, 1.0, 0.0]], [0, 1], ['cat', 'dog'])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | int | Sequence[str | int] | None = None,
        *,
        columns: Iterable[str | int] | None = None,
        drop: Iterable[str | int] = (),
        categorical: Iterable[str | int] = (),
        target_type: str | None = None,
        fill: Fill | Mapping[str, Fill] = None,
        missing: Iterable[str] = _MISSING,
        like: CSVDataset | None = None,
        delimiter: str = ",",
        header: bool = True,
        encoding: str = "utf-8-sig",
    ) -> None:
        if target_type not in (None, "class", "number"):
            raise ValueError(f"[CSVDataset] got target_type {target_type!r}, expected 'class', 'number' or None")
        path = Path(path)
        large = path.stat().st_size >= _PANDAS_FROM
        table = (_read_pandas(path, delimiter, header, encoding) if large else None) or _read(
            path, delimiter, header, encoding
        )
        self.path = path
        self._missing: frozenset[str] = frozenset(missing) if like is None else like._missing
        if like is None:
            pick = _Picker(table)
            single = target is None or isinstance(target, (str, int, np.integer))
            wanted: Any = () if target is None else [target] if single else target
            self.targets = [pick(t) for t in wanted]
            self._single = single
            dropped = {pick(name) for name in drop} | set(self.targets)
            self.columns = [pick(c) for c in columns] if columns is not None else table.names
            self.columns = [name for name in self.columns if name not in dropped]
            self._target_type = target_type
            self._fill = dict(fill) if isinstance(fill, Mapping) else fill
            for name in self._fill if isinstance(self._fill, dict) else ():
                pick(name)
            chosen = {pick(name) for name in categorical}
            self.categories: dict[str, list[str]] = {}
            for name in self.columns:
                if name in chosen or not self._is_numeric(table.columns[name]):
                    self.categories[name] = self._kinds(table.columns[name])
            self.classes: list[str] | None = None
            self._fills = {name: self._fill_of(name, table.columns[name]) for name in self.columns}
        else:
            self.targets, self._single, self.columns = like.targets, like._single, like.columns
            self._target_type, self.categories, self.classes = like._target_type, like.categories, like.classes
            self._fills = like._fills
            for name in [*self.columns, *self.targets]:
                _Picker(table)(name)
        if not self.columns:
            raise ValueError(f"[CSVDataset] {path}: no column is left for x; its columns are {table.names}")
        blocks = [self._features(table, name) for name in self.columns]
        self.feature_names = [
            label
            for name in self.columns
            for label in ([f"{name}={c}" for c in self.categories[name]] if name in self.categories else [name])
        ]
        self.x: npt.NDArray[np.float32] = np.ascontiguousarray(np.concatenate(blocks, axis=1))
        self.y: npt.NDArray[Any] | None = None
        if self.targets:
            ys = [self._target(table, name, like) for name in self.targets]
            self.y = ys[0] if self._single else np.stack([y.astype(np.float32) for y in ys], axis=1)
        super().__init__(*(a for a in (self.x, self.y) if a is not None))

    def _is_numeric(self, cells: list[str]) -> bool:
        return all(cell in self._missing or _number(cell) is not None for cell in cells)

    def _kinds(self, cells: list[str]) -> list[str]:
        found = {cell for cell in cells if cell not in self._missing}
        if all(_number(cell) is not None for cell in found):
            return sorted(found, key=float)
        return sorted(found)

    def _fill_of(self, name: str, cells: list[str]) -> str | None:
        """The cell that stands in for a missing one of this column."""
        fill = self._fill.get(name) if isinstance(self._fill, dict) else self._fill
        if fill is None:
            return None
        present = [cell for cell in cells if cell not in self._missing]
        if fill == "most_frequent" and present:
            return max(sorted(set(present)), key=present.count) if len(set(present)) < 1000 else _mode(present)
        if name in self.categories:
            if isinstance(fill, str) and fill not in ("mean", "median", "most_frequent"):
                if fill not in self.categories[name]:
                    self.categories[name] = sorted([*self.categories[name], fill])
                return fill
            return None
        if fill in ("mean", "median") and present:
            values = np.array(present, np.float64)
            return repr(float(values.mean() if fill == "mean" else np.median(values)))
        if isinstance(fill, str):
            raise ValueError(
                f"[CSVDataset] {self.path}: got the fill {fill!r} for column {name!r} with {len(present)} numbers,"
                " expected a number, 'mean', 'median' or 'most_frequent', and a column that is not empty"
            )
        return repr(float(fill))

    def _filled(self, table: _Table, name: str, fill: str | None) -> list[str]:
        cells = table.columns[name]
        out = []
        for row, cell in enumerate(cells):
            if cell in self._missing:
                if fill is None:
                    raise ValueError(
                        f"{table.where(row, name)}: the value is missing ({cell!r})"
                        + ("" if name in self.targets else "; give a fill, for example fill={" + repr(name) + ": ...}")
                    )
                cell = fill
            out.append(cell)
        return out

    def _numbers(self, table: _Table, name: str, cells: list[str]) -> npt.NDArray[np.float64]:
        values = np.empty(len(cells))
        for row, cell in enumerate(cells):
            number = _number(cell)
            if number is None or not math.isfinite(number):
                raise ValueError(f"{table.where(row, name)}: got {cell!r}, expected a finite number")
            values[row] = number
        return values

    def _codes(self, table: _Table, name: str, cells: list[str], kinds: list[str]) -> npt.NDArray[np.int64]:
        place = {kind: i for i, kind in enumerate(kinds)}
        codes = np.empty(len(cells), np.int64)
        for row, cell in enumerate(cells):
            if cell not in place:
                shown = ", ".join(map(repr, kinds[:8])) + (", ..." if len(kinds) > 8 else "")
                raise ValueError(f"{table.where(row, name)}: got {cell!r}, expected one of {shown}")
            codes[row] = place[cell]
        return codes

    def _features(self, table: _Table, name: str) -> npt.NDArray[np.float32]:
        cells = self._filled(table, name, self._fills[name])
        if name not in self.categories:
            return self._numbers(table, name, cells).astype(np.float32)[:, None]
        kinds = self.categories[name]
        return np.eye(len(kinds), dtype=np.float32)[self._codes(table, name, cells, kinds)]

    def _target(self, table: _Table, name: str, like: CSVDataset | None) -> npt.NDArray[Any]:
        cells = self._filled(table, name, None)
        numeric = self._is_numeric(cells)
        if self._single and (self.classes is not None or self._target_type == "class" or not numeric):
            if like is None:
                if self._target_type == "number":
                    self._numbers(table, name, cells)  # names the cell that is none
                self.classes = self._kinds(cells)
            return self._codes(table, name, cells, self.classes or [])
        values = self._numbers(table, name, cells)
        whole = like.y.dtype.kind == "i" if like is not None and like.y is not None else _whole(values)
        if whole and _whole(values) and self._single and self._target_type != "number":
            return values.astype(np.int64)
        return values.astype(np.float32)


def _whole(values: npt.NDArray[np.float64]) -> bool:
    return bool((values == np.rint(values)).all() and (np.abs(values) < 2.0**53).all())


def _mode(cells: list[str]) -> str:
    from collections import Counter

    counts = Counter(cells)
    most = max(counts.values())
    return min(cell for cell, count in counts.items() if count == most)


class _Picker:
    """Names of columns from names and positions."""

    def __init__(self, table: _Table) -> None:
        self.table = table

    def __call__(self, column: Any) -> str:
        names = self.table.names
        if (
            isinstance(column, (int, np.integer))
            and not isinstance(column, bool)
            and -len(names) <= column < len(names)
        ):
            return names[column]
        if isinstance(column, str) and column in names:
            return column
        raise ValueError(f"[CSVDataset] {self.table.path}: no column {column!r}; the columns are {names}")
