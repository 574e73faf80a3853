"""The package as its users get it: a quiet, light import, one version, complete files, a small size."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pydl

PACKAGE = Path(pydl.__file__).resolve().parent
ROOT = Path(__file__).resolve().parent.parent

# Standard modules that would cost milliseconds at every start, or that a library has no business with.
HEAVY = {"asyncio", "concurrent", "ctypes", "email", "html", "http", "multiprocessing", "sqlite3", "ssl", "tkinter"}
HEAVY |= {"unittest", "urllib.request", "xml", "importlib.metadata", "pdb", "doctest", "distutils", "pickle"}

PROBE = """
import json, os, signal, sys, threading
import numpy
def state():
    handlers = [str(signal.getsignal(s)) for s in signal.valid_signals()]
    tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
    return handlers, tasks, dict(os.environ)
names, before = set(sys.modules), state()
import pydl
print(json.dumps({"new": sorted(set(sys.modules) - names), "same": state() == before}))
"""


def run(code, folder, **environment):
    """Runs code in a fresh interpreter away from the source tree; `pydl` is the one under test."""
    paths = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    done = run(PROBE, tmp_path_factory.mktemp("probe"))
    assert done.returncode == 0, done.stderr
    return done


def test_import_is_silent(probe):
    assert probe.stderr == ""
    assert probe.stdout.count("\n") == 1


def test_import_loads_nothing_optional(probe):
    """Beside itself and numpy, only light modules of the standard library."""
    new = json.loads(probe.stdout)["new"]
    assert "pydl" in new
    foreign = {
        name
        for name in (module.split(".")[0] for module in new)
        if name not in sys.stdlib_module_names and name not in {"pydl", "numpy"} and not name.startswith("_pydl")
    }
    heavy = {module for module in new if module in HEAVY or module.split(".")[0] in HEAVY}
    assert foreign == set()
    assert heavy == set()


def test_import_changes_nothing_global(probe):
    """No signal handler, no thread, no environment variable."""
    assert json.loads(probe.stdout)["same"]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "99999999999999999999"])
def test_bad_thread_count_in_environment_is_clear(value, tmp_path):
    code = "import pydl\ntry: pydl.get_num_threads()\nexcept ValueError as error: print(error)"
    done = run(code, tmp_path, PYDL_NUM_THREADS=value)
    assert done.returncode == 0, done.stderr
    assert "PYDL_NUM_THREADS" in done.stdout
    assert f'"{value}"' in done.stdout


def test_thread_count_from_environment(tmp_path):
    done = run("import pydl\nprint(pydl.get_num_threads())", tmp_path, PYDL_NUM_THREADS="3")
    assert done.stdout == "3\n", done.stderr


def test_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", pydl.__version__)
    stated = re.search(r'^version = "(.*?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert pydl.__version__ == stated[1]
    try:
        installed = importlib.metadata.version("pydl")
    except importlib.metadata.PackageNotFoundError:
        return  # run from the source tree
    assert pydl.__version__ == installed


@pytest.mark.parametrize("name", ["py.typed", "_C.pyi"])
def test_types_are_shipped(name):
    assert (PACKAGE / name).is_file()


def test_command_is_installed():
    try:
        scripts = importlib.metadata.distribution("pydl").entry_points
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pydl is not installed, only importable")
    (command,) = [script for script in scripts if script.name == "pydl"]
    assert callable(command.load())


def test_installed_size():
    """At most 8 MB with all of its levels."""
    try:
        files = importlib.metadata.files("pydl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(file.locate()) for file in files if not str(file).endswith(".pyc")]
    if not any(path.parent == PACKAGE and path.name.startswith("_C.") and path.suffix == ".so" for path in paths):
        pytest.skip("pydl is not installed from a wheel")
    assert sum(path.stat().st_size for path in paths if path.exists()) <= 8e6
    stray = [str(path) for path in paths if path.suffix in {".cpp", ".h", ".o", ".a", ".cmake"}]
    assert stray == []
