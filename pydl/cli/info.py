"""`pydl info`: what runs here."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the command to a parser's subparsers."""
    parser = commands.add_parser("info", help="version, instruction set, threads and devices", description=__doc__)
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    import platform

    import numpy as np

    import pydl

    rows = {
        "pydl": pydl.__version__,
        "Python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "NumPy": np.__version__,
    }
    for key, value in pydl.backend.info().items():
        rows[key.replace("_", " ")] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    width = max(map(len, rows))
    for key, text in rows.items():
        print(f"{key:<{width}}  {text}")
    return 0
