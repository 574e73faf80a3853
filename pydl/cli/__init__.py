"""The command `pydl`. A user's mistake is one line on stderr and the exit status 2; trouble while working is 1."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED = 130  # what shells give a process that ended by SIGINT, and by SIGPIPE
BROKEN_PIPE = 141


class CommandError(Exception):
    """Ends the command with one line on stderr.

    Args:
        message: the line.
        status: the exit status; 2 is a wrong flag or input, 1 anything else.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes no abbreviated flags."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; see {self.prog} --help")


def describe(error: BaseException) -> str:
    """An exception as one line for users: without the name of the function that raised it, with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return place + _without_origin(error.strerror)
    return _without_origin(str(error))


def _without_origin(message: str) -> str:
    return re.sub(r"^\[[\w.]+\] ", "", message).replace("\n", " ")


@contextmanager
def input_errors() -> Iterator[None]:
    """Within it, an OSError or ValueError means that what the user gave is at fault."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CommandError(describe(error)) from None


def _build_parser() -> Parser:
    import pydl
    from pydl.cli import charlm, info

    parser = Parser(prog="pydl", description="pydl, a small deep-learning library: what it does from the command line")
    parser.add_argument("--version", action="version", version=f"pydl {pydl.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    charlm.add_parser(commands)
    info.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments; default those of the process.

    Returns:
        The exit status.
    """

    def run() -> int:
        arguments = _build_parser().parse_args(argv)
        status: int = arguments.run(arguments)
        return status

    return answered("pydl", run)


def answered(name: str, run: Callable[[], int]) -> int:
    """Calls what a command does; whatever goes wrong is one line on stderr.

    Args:
        name: the command's, which the line begins with.
        run: gives the exit status.

    Returns:
        The exit status.
    """

    def _fail(message: str, status: int) -> int:
        print(f"{name}: {message}", file=sys.stderr)
        return status

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        status = run()
        sys.stdout.flush()
        return status
    except CommandError as error:
        return _fail(str(error), error.status)
    except BrokenPipeError:
        # Whoever read our output has gone, which is no error of ours; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}" if str(error) else "not enough memory", 1)
    except OSError as error:
        return _fail(describe(error), 1)
