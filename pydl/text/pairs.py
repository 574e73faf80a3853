"""Parallel texts: files in which each line has a text, a tab, and its counterpart; and folders of source files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydl.text.reading import Corpus, PathLike, read_text, read_texts


def read_pairs(path: PathLike, *, limit: int | None = None) -> list[tuple[str, str]]:
    """The pairs of a tab-separated file, one a line: source, tab, target.

    Spaces around both are cut off; fields behind the second are notes and left out; empty lines are passed over.

    Args:
        path: a UTF-8 file.
        limit: how many pairs to read; default all.

    Raises:
        OSError: the file is missing or not readable.
        ValueError: the file is no text, a line has no tab or an empty side (names file and line), or no line is left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pairs.txt").write_text("Go.\\tVa !\\nRun!\\tCours !\\n", encoding="utf-8")
        ...     read_pairs(Path(folder, "pairs.txt"))
        [('Go.', 'Va !'), ('Run!', 'Cours !')]
    """
    if limit is not None and limit < 1:
        raise ValueError(f"[read_pairs] got limit {limit}, expected 1 or more")
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) < 2 or not fields[0] or not fields[1]:
            shown = repr(line if len(line) <= 40 else line[:37] + "...")
            wrong = "no tab" if len(fields) < 2 else f"nothing {'before' if not fields[0] else 'behind'} the tab"
            raise ValueError(
                f"[read_pairs] {Path(path)}, line {number}: {wrong} in {shown}, expected source, tab, target"
            )
        pairs.append((fields[0], fields[1]))
        if len(pairs) == limit:
            break
    if not pairs:
        raise ValueError(f"[read_pairs] {Path(path)}: the file has only empty lines, expected pairs")
    return pairs


def read_sources(folder: PathLike, suffixes: str | Iterable[str]) -> Corpus:
    """The files of a folder and its subfolders whose names end in one of the suffixes, such as ".py", as one text.

    Files that are empty or no UTF-8 text are listed in ``skipped``; hidden ones are left out; the order is by path.

    Raises:
        OSError: the folder is missing or not readable.
        ValueError: no file with these suffixes that has text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.py", "b.c", "c.py"):
        ...         _ = Path(folder, name).write_text(f"# {name}")
        ...     read_sources(folder, ".py").text
        '# a.py\\n# c.py'
    """
    endings = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    if not endings or not all(ending.startswith(".") and len(ending) > 1 for ending in endings):
        raise ValueError(f"[read_sources] got suffixes {suffixes!r}, expected some such as '.py'")
    return read_texts([folder], suffixes=endings)
