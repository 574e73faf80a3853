"""A side in a process of its own: Side is the parent's end, serve the child's; between them lines of JSON.

The child first makes a case ready and computes its results; then it times n repetitions whenever it is told to, so that
the parent can take turns between several sides. A side that is not asked sleeps.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from bench import ROOT
from bench.cases import CASES, CUDA_CASES, Case
from bench.kinds import Arrays, Work

# name -> (module, further arguments of its start, how tables call it)
SIDES: dict[str, tuple[str, dict[str, Any], str]] = {
    "pydl": ("side_pydl", {}, "pydl"),
    "torch": ("side_torch", {}, "PyTorch"),
    "compile": ("side_torch", {"compiled": True}, "torch.compile"),
    "jax": ("side_jax", {}, "JAX"),
}
_CHILD = "import json, sys; sys.path[:1] = json.loads(sys.argv[1]); from bench.process import serve; serve()"


class SideError(Exception):
    """A side cannot do what it was asked for; the text says why."""


def _environment(threads: int, isa: str | None) -> dict[str, str]:
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYDL_NUM_THREADS"):
        environment[name] = str(threads)
    if threads == 1:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".strip()
    if isa:
        environment["PYDL_ISA"] = isa
    return environment


class Side:
    """One library in a process of its own, which takes over this one's affinity.

    Args:
        name: a key of SIDES.
        threads: how many it may use.
        isa: pydl's ISA level; default the best.
        paths: folders that come first when it imports.
        device: "cpu" or "cuda".

    Attributes:
        info: what the library tells about itself, such as its version.

    Raises:
        SideError: it is not installed or does not start.
    """

    def __init__(
        self, name: str, threads: int, isa: str | None = None, paths: Sequence[Path] = (), device: str = "cpu"
    ) -> None:
        self.name, self.device = name, device
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._folder = tempfile.TemporaryDirectory()
        self._search = json.dumps([*map(str, paths), *(p for p in sys.path if p != str(ROOT)), str(ROOT)])
        self._threads, self._isa = threads, isa
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, self._search],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self._folder.name,
            env=_environment(self._threads, self._isa),
        )
        try:
            self.info: dict[str, str] = self._ask("start", name=self.name, threads=self._threads, device=self.device)
        except SideError:
            self.close()
            raise

    def prepare(self, case: Case) -> tuple[float, Arrays] | None:
        """Makes a case ready and warms it up, in a new process where the last has ended.

        Returns:
            Roughly the seconds of one repetition, and the results; None where the side has no such case.
        """
        if self._process.poll() is not None:
            self._end()
            self._start()
        path = Path(self._folder.name) / "results.npz"
        seconds = self._ask("prepare", case=case.name, path=str(path))
        if seconds is None:
            return None
        with np.load(path) as results:
            return seconds, dict(results)

    def measure(self, n: int) -> float:
        """The mean of n repetitions of the prepared case, in its unit."""
        return self._ask("measure", n=n)

    def release(self) -> None:
        """Drops the prepared case."""
        self._ask("release")

    def _ask(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps([what, arguments]), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            last = [s for s in self._log.read().splitlines() if s.strip()][-1:] or ["it said nothing"]
            raise SideError(f"the process ended with status {status}: {last[0]}")
        done, value = json.loads(line)
        if not done:
            raise SideError(value)
        return value

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._log.close()
        self._folder.cleanup()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def seconds_of(work: Work, n: int, wait: Callable[[], None] = lambda: None) -> float:
    """The mean of n repetitions; wait is called before the first and after the last."""
    if work.measure is not None:
        return work.measure(n)
    step = work.step
    wait()
    begin = time.perf_counter()
    for _ in repeat(None, n):
        step()
    wait()
    return (time.perf_counter() - begin) / n


def warm_up(work: Work, least: float = 0.1, wait: Callable[[], None] = lambda: None) -> float:
    """Repeats for some time, until it has settled. Returns roughly what one repetition takes."""
    if work.measure is not None:
        return work.measure(1)
    seconds_of(work, 2, wait)
    n, spent = 1, 0.0
    while True:
        seconds = seconds_of(work, n, wait)
        spent += seconds * n
        if spent >= least:
            return seconds
        n = min(2 * n, max(1, int(least / seconds)))


class _Server:
    """Answers what a Side asks; one method for each question."""

    def __init__(self) -> None:
        self._module: Any = None
        self._work: Work | None = None

    def start(self, name: str, threads: int, device: str) -> dict[str, str]:
        module, arguments, _ = SIDES[name]
        self._module = importlib.import_module(f"bench.{module}")
        return self._module.start(threads, device=device, **arguments)

    def prepare(self, case: str, path: str) -> float | None:
        row = next(row for row in (*CASES, *CUDA_CASES) if row.name == case)
        builder = self._module.builder(row.kind)
        if builder is None:
            return None
        self._work = builder(row.inputs(), **row.sizes)
        np.savez(path, **self._work.results())
        return warm_up(self._work, wait=self._module.wait)

    def measure(self, n: int) -> float:
        assert self._work is not None
        return seconds_of(self._work, n, self._module.wait)

    def release(self) -> None:
        self._work = None


def serve() -> None:
    """Answers questions from standard input until it ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = _Server()
    for line in sys.stdin:
        what, arguments = json.loads(line)
        try:
            answer = [True, getattr(server, what)(**arguments)]
        except Exception as error:
            first = str(error).strip().splitlines()[:1] or [""]
            answer = [False, f"{type(error).__name__}: {first[0][:200]}"]
        print(json.dumps(answer), file=answers)
