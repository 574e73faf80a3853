"""What a library costs before it does anything: the time of its import and its size on disk, NumPy apart."""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.kinds import Arrays, Work

_PROBE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import numpy, time
start = time.perf_counter()
__import__(sys.argv[2])
print(time.perf_counter() - start)
"""


def _nothing() -> Arrays:
    return {}


def import_time(module: str, inputs: Arrays) -> Work:
    """Each repetition imports NumPy and then the module, compiled before by Python, in a new process."""
    command = [sys.executable, "-c", _PROBE, json.dumps(sys.path), module]
    environment = dict(os.environ)
    if environment.pop("PYTHONDONTWRITEBYTECODE", None):
        environment["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, environment["PYTHONPYCACHEPREFIX"], ignore_errors=True)

    def once() -> float:
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)

    once()

    def measure(n: int) -> float:
        times = [once() for _ in range(n)]
        return sum(times) / n

    return Work(lambda: measure(1), _nothing, measure)


def _distributions(name: str, seen: set[str]) -> set[str]:
    """The names of a distribution and of all that it requires and is installed; NumPy is left out."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name == "numpy" or name in seen:
        return seen
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for line in required:
        if not re.search(r";.*\bextra\b", line):
            _distributions(re.split(r"[^\w.-]", line, maxsplit=1)[0], seen)
    return seen


def _files(module: str) -> set[Path]:
    files = set()
    for name in _distributions(module, set()):
        distribution = importlib.metadata.distribution(name)
        files |= {Path(str(distribution.locate_file(f))).resolve() for f in distribution.files or ()}
    spec = importlib.util.find_spec(module)
    folder = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if folder and not any(folder in f.parents for f in files):  # not installed, or installed as a link to its sources
        files |= set(folder.rglob("*"))
    return {f for f in files if f.is_file() and f.suffix != ".pyc"}


def installed_size(module: str, inputs: Arrays) -> Work:
    """The bytes of the module's files and of all that it cannot do without; compiled Python is not counted."""
    size = sum(f.stat().st_size for f in _files(module))
    return Work(lambda: None, _nothing, lambda n: float(size))
