"""Readers: text files and folders of them into one string, with an error for whatever is not text.

A text is UTF-8, with or without a byte order mark; line ends become "\\n", as they do in Python's own text files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Corpus:
    """What was read: the text, the files it came from, and the files that were passed over, each with the reason."""

    text: str
    files: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...] = ()


class _NotTextError(ValueError):
    """The content of a file is not usable; the message says why, without the path."""


def _decode(data: bytes) -> str:
    if not data:
        raise _NotTextError("the file is empty")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _NotTextError("the file is UTF-16, expected UTF-8; convert it first (iconv -f utf-16 -t utf-8)")
    zero = data.find(b"\0")
    if zero >= 0:
        raise _NotTextError(f"the file is binary (a zero byte at offset {zero}), expected UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotTextError(
            f"the file is binary or not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}), expected UTF-8"
            " text; convert other encodings first (iconv -f latin1 -t utf-8)"
        ) from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise _NotTextError("the file is empty")
    return text


def read_text(path: PathLike) -> str:
    """The text of one file.

    Raises:
        OSError: the file is missing, a folder, a device or not readable.
        ValueError: the file is empty, binary or not UTF-8.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise ValueError(f"[read_text] {path}: got a device or socket, expected a file")
    try:
        return _decode(path.read_bytes())
    except _NotTextError as error:
        raise ValueError(f"[read_text] {path}: {error}") from None


def _files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and its subfolders, hidden ones left out, in an order that is the same on every machine."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    yield from sorted((path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).parts)


def _joined(texts: Iterable[str]) -> str:
    """The texts one after the other, a line break between two where the first has none at its end."""
    parts: list[str] = []
    for text in texts:
        if parts and not parts[-1].endswith("\n"):
            parts.append("\n")
        parts.append(text)
    return "".join(parts)


def read_texts(paths: Iterable[PathLike], *, suffixes: tuple[str, ...] | None = None) -> Corpus:
    """The texts of files, and of all files in folders and their subfolders, joined in the order given.

    A folder's files come sorted by path; hidden ones are left out; those that are empty or no UTF-8 text are skipped
    and listed in ``Corpus.skipped``. A file given by name must be text. `suffixes`, such as ``(".py",)``, keeps only
    the files of folders whose names end so.

    Raises:
        OSError: a path is missing or not readable.
        ValueError: a file given by name is empty, binary or not UTF-8; a folder has no text file; `paths` is empty.
    """
    texts: list[str] = []
    files: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            texts.append(read_text(path))
            files.append(path)
            continue
        before = len(files)
        for file in _files_below(path):
            if suffixes is not None and not file.name.endswith(suffixes):
                continue
            try:
                texts.append(_decode(file.read_bytes()))
                files.append(file)
            except _NotTextError as reason:
                skipped.append((file, str(reason)))
        if len(files) == before:
            ending = f" that ends in {' or '.join(suffixes)}" if suffixes else ""
            raise ValueError(f"[read_texts] {path}: the folder has no text file{ending} (UTF-8, not empty, not hidden)")
    if not files:
        raise ValueError("[read_texts] got no path, expected at least one file or folder")
    return Corpus(_joined(texts), tuple(files), tuple(skipped))


def standard_library(max_characters: int = 1_500_000) -> Corpus:
    """The source code of Python's own standard library, a text that every machine has: its top-level modules by name.

    Args:
        max_characters: where the text is cut off.

    Raises:
        ValueError: this Python comes without sources (an embedded or frozen one).
    """
    import sysconfig

    folder = Path(sysconfig.get_path("stdlib"))
    texts: list[str] = []
    files: list[Path] = []
    total = 0
    for file in sorted(folder.glob("*.py"), key=lambda path: path.name):
        if total >= max_characters:
            break
        try:
            text = _decode(file.read_bytes())
        except _NotTextError:
            continue
        texts.append(text)
        files.append(file)
        total += len(text)
    if not files:
        raise ValueError(f"[standard_library] {folder} has no Python source; name a text file instead")
    return Corpus(_joined(texts)[:max_characters], tuple(files))
