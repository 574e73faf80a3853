"""Every kernel table that this machine can run, each in a process of its own: same answers, clear refusals."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
LEVELS = ("v2", "v3", "v4")
NEEDED = {
    "v2": {"sse4_2", "popcnt", "ssse3"},
    "v3": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"},
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
# What runs at each level: enough to call every family of kernels with vectors, tails and threads.
SUITE = (
    "test_ops.py::test_value_at_odd_sizes",
    "test_ops.py::test_value_of_large_inputs_and_the_same_bits_for_any_thread_count",
    "test_vector_math.py::test_bound_where_networks_live",
    "test_vector_math.py::test_special_values_are_exact",
    "test_vector_math.py::test_value_does_not_depend_on_the_place_in_the_vector",
    "test_gradients.py::test_gradient_against_finite_differences",
    "test_losses.py::test_cross_entropy",
    "test_losses_fused.py::test_every_size_and_reduction",
    "test_losses_fused.py::test_ctc_counts_all_alignments",
    "test_recurrent.py",
    "test_convolution.py",
    "test_normalization.py",
    "test_pooling.py",
    "test_interpolation.py",
    "test_gemm_paths.py",
    "test_picked_rows.py",
    "test_random.py::test_a_number_depends_on_its_position_alone",
)
BRIEF = "exp or tanh or sigmoid or matmul or linear or softmax or sum or add"
BRIEF += " or lstm or gru or rnn or mean or embedding or winograd or narrow or larger"


@functools.cache
def cpu_flags() -> frozenset[str]:
    path = pathlib.Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    lines = [line for line in path.read_text().splitlines() if line.startswith("flags")]
    return frozenset(lines[0].split(":")[1].split()) if lines else frozenset()


@functools.cache
def built() -> frozenset[str]:
    """The levels in this build; developers may build one alone."""
    import pydl

    return frozenset(pydl.backend.info()["isa_levels"])


def supported(level: str) -> bool:
    return level in built() and all(NEEDED[below] <= cpu_flags() for below in LEVELS[: LEVELS.index(level) + 1])


pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not cpu_flags(), reason="the levels are those of x86-64 on Linux"
)
BY_LEVEL = pytest.mark.parametrize("level", LEVELS)


def environment(level: str) -> dict[str, str]:
    """This process's own pydl, wherever it was imported from, at the given level."""
    import pydl

    return {**os.environ, "PYDL_ISA": level, "PYTHONPATH": str(pathlib.Path(pydl.__file__).parent.parent)}


def run(code: str, level: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment(level), check=False
    )


@BY_LEVEL
def test_level_is_selected_or_refused(level: str) -> None:
    report = "import json, pydl; print(json.dumps(pydl.backend.info(), default=str)); "
    done = run(report + "print((pydl.ones((9,)) * 3).sum().item())", level)
    if supported(level):
        assert done.returncode == 0, done.stderr
        info, value = done.stdout.splitlines()
        assert level in json.loads(info)["isa"]
        assert value == "27.0"
    else:
        assert done.returncode != 0
        assert done.returncode > 0, "killed by a signal: the level ran instead of being refused"
        last = done.stderr.strip().splitlines()[-1]
        assert "PYDL_ISA" in last
        assert level in last
        assert any(word in last for word in ("not support", "lacks", "no tables"))


@pytest.mark.parametrize("level", ["v9", "avx2", "V3 ", "3"])
def test_unknown_level_is_refused(level: str) -> None:
    done = run("import pydl", level)
    assert done.returncode > 0
    assert "PYDL_ISA" in done.stderr.strip().splitlines()[-1]


def test_best_level_is_the_default() -> None:
    default = {k: v for k, v in environment("").items() if k != "PYDL_ISA"}
    code = "import pydl; print(pydl.backend.info()['isa'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=default, timeout=120, check=True
    )
    best = [level for level in LEVELS if supported(level)][-1]
    assert best in done.stdout


def run_suite(level: str, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *SUITE, *options],
        cwd=HERE, env=environment(level), capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


@BY_LEVEL
def test_numeric_suite(level: str) -> None:
    """Levels other than the one that the main process tests anyway."""
    best = [name for name in LEVELS if supported(name)][-1]
    if not supported(level) or level == os.environ.get("PYDL_ISA", best):
        pytest.skip("not here, or tested by the main process")
    run_suite(level, "-k", BRIEF)


@pytest.mark.slow
@BY_LEVEL
def test_whole_numeric_suite(level: str) -> None:
    if not supported(level):
        pytest.skip("not on this machine")
    run_suite(level)


RESULTS = """
import hashlib, numpy as np, pydl
rng = np.random.default_rng(0)
x = rng.normal(size=4099).astype(np.float32)
h = hashlib.sha256()
for f in (pydl.abs, pydl.negative, pydl.floor, pydl.square, pydl.sqrt, pydl.nn.functional.relu):
    h.update(f(pydl.asarray(np.abs(x))).numpy().tobytes())
for f in (pydl.add, pydl.multiply, pydl.divide, pydl.maximum):
    h.update(f(pydl.asarray(x), pydl.asarray(x[::-1].copy())).numpy().tobytes())
g = pydl.Generator(5)
h.update(pydl.rand(1000, generator=g).numpy().tobytes())
h.update(pydl.randint(0, 1000, (1000,), generator=g).numpy().tobytes())
h.update(pydl.randperm(1000, generator=g).numpy().tobytes())
print(h.hexdigest())
"""


def test_correctly_rounded_operations_have_the_same_bits_at_every_level() -> None:
    digests = {level: run(RESULTS, level).stdout for level in LEVELS if supported(level)}
    assert all(digests.values())
    assert len(set(digests.values())) == 1, digests
