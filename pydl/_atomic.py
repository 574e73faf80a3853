"""Files that are either the old ones or the new ones, never half of either. Whatever writes a file does it here."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic_write", "remove_leftovers"]


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb", encoding: str | None = None) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; on leaving the block sync it and rename it over ``path``.

    A crash, an exception or a full disk leaves the old file as it was, and an exception removes the temporary file.
    A symbolic link is followed; an existing file's permissions are kept.

    Args:
        path: the file to write; its folder must exist.
        mode: ``"wb"`` (default) or ``"w"``.
        encoding: of text files; default UTF-8.

    Raises:
        ValueError: another mode, or ``path`` is no regular file (a device, a pipe, a folder).
        OSError: whatever the system says.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(os.path.join(folder, "note.txt"), "w") as file:
    ...         _ = file.write("all or nothing")
    ...     os.listdir(folder)
    ['note.txt']
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"[atomic_write] got mode {mode!r}, expected 'wb' or 'w'")
    target = os.path.realpath(os.fspath(path))
    permissions = _permissions(target)
    temporary, descriptor = _create_beside(target)
    try:
        with open(descriptor, mode, encoding=(encoding or "utf-8") if mode == "w" else None) as file:
            if permissions is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, permissions)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = target  # a full disk does not say which file was to be written
        raise
    _sync_folder(os.path.dirname(target))


def remove_leftovers(folder: str | os.PathLike[str], name: str) -> None:
    """Remove the temporary files that killed processes left beside a file of this name; ``*`` and ``?`` stand for some
    that match. A process that is writing right now would lose its file.
    """
    for path in Path(folder).glob(f".{name[:60]}.*.tmp"):
        path.unlink(missing_ok=True)


def _permissions(target: str) -> int | None:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise ValueError(f"[atomic_write] {target} is no regular file; give the path of a file")
    return stat.S_IMODE(mode)


def _create_beside(target: str) -> tuple[str, int]:
    folder, name = os.path.split(target)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    while True:
        # A name near the limit of 255 bytes must leave room for the suffix.
        temporary = os.path.join(folder, f".{name[:60]}.{os.urandom(8).hex()}.tmp")
        try:
            return temporary, os.open(temporary, flags, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "No such folder to write to; make it first", folder) from None


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot sync a folder; the rename itself has happened
    finally:
        os.close(descriptor)
