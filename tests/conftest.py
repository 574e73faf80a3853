"""Fixtures and options that every test file shares. No tensors, no oracles."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import sys
import zlib
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

hypothesis.settings.register_profile("quick", deadline=None, derandomize=True, max_examples=60, database=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000, database=None)


# Files whose every test runs on the CPU and on a CUDA device; the latter are skipped where there is none.
ON_EVERY_DEVICE = frozenset(
    ["test_convolution", "test_gemm_paths", "test_indexing", "test_nonfinite", "test_ops", "test_picked_rows"]
    + ["test_promotion", "test_quantized", "test_recurrent", "test_recurrent_extras"]
)
# Tests of those files that are about the CPU alone: its memory, threads or vectors.
CPU_ONLY: frozenset[str] = frozenset()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), help="run on this device alone, all files that are named")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The device as a parameter of every test in ON_EVERY_DEVICE."""
    only = metafunc.config.getoption("--device")
    listed = metafunc.module.__name__ in ON_EVERY_DEVICE and metafunc.function.__name__ not in CPU_ONLY
    devices = [only] if only else ["cpu", "cuda"] if listed else []
    if devices and devices != ["cpu"]:
        metafunc.parametrize("device", devices, indirect=True)


@pytest.fixture(autouse=True)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Makes it the default, so that what a test creates lies there; numpy() copies to the host where that is needed."""
    import pydl
    from pydl._interop import to_numpy

    name = getattr(request, "param", "cpu")
    if name == "cpu":
        yield name
        return
    problem = pydl.cuda.why_unavailable()
    if problem:
        pytest.skip(f"no CUDA device: {problem}")
    monkeypatch.setattr(pydl.Tensor, "numpy", lambda x: to_numpy(x.cpu()))
    pydl.set_default_device(name)
    yield name
    pydl.set_default_device("cpu")


def pytest_configure(config: pytest.Config) -> None:
    """`-m slow` runs the slow tests and gives hypothesis many more examples."""
    hypothesis.settings.load_profile("thorough" if config.option.markexpr == "slow" else "quick")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs; we test what Ctrl-C does
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def subprocesses_import_what_is_tested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new Python looks into its working directory first, where the source tree may lie without the extension."""
    import pydl

    before = pathlib.Path.cwd(), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(pathlib.Path(pydl.__file__).parent.parent)
    os.chdir(tmp_path_factory.mktemp("working_directory"))
    yield
    os.chdir(before[0])
    if before[1] is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before[1]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Numbers that depend on the test's name alone, the same on every device."""
    name = re.sub(r"\[(cpu|cuda)\]$|(?<=\[)(cpu|cuda)-|-(cpu|cuda)(?=[-\]])", "", request.node.name)
    return np.random.default_rng(zlib.crc32(name.encode()))


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the thread count that the test changes."""
    import pydl

    before = pydl.get_num_threads()
    yield
    pydl.set_num_threads(before)
