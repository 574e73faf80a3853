"""Benchmarks: one set of cases, run by pydl and by its peers side by side. `python -m bench --help` tells how."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The source tree has no compiled extension unless it was built in place: an installed pydl comes first.
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT] + [str(ROOT)]
