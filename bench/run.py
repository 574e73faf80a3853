"""Takes turns: checks every side's results, then times one batch of each side after the other, round after round."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from bench import machine
from bench.cases import Case
from bench.process import Side, SideError

_PAUSE = 0.005  # seconds between turns: the threads of the side before have gone to sleep by then


@dataclass
class Timing:
    """One side of one case: the mean of each round's batch, or why there is none."""

    samples: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def median(self) -> float:
        return float(np.median(self.samples)) if self.samples else float("nan")

    def percentile(self, q: float) -> float:
        return float(np.percentile(self.samples, q)) if self.samples else float("nan")


@dataclass
class Row:
    """One case with the timings of its sides; a side that has no such case is absent."""

    case: Case
    timings: dict[str, Timing]
    peak: float | None = None  # what the machine could do of the case's kind of work meanwhile, in a second

    @property
    def best_peer(self) -> float | None:
        """The least median of the sides after the first."""
        medians = [t.median for t in list(self.timings.values())[1:] if t.samples]
        return min(medians) if medians else None

    @property
    def ratio(self) -> float | None:
        """The first side's median over the best peer's."""
        mine = next(iter(self.timings.values()), None)
        if mine is None or not mine.samples or self.best_peer is None:
            return None
        return mine.median / self.best_peer

    @property
    def share(self) -> float | None:
        """The part of the machine's peak that the first side reaches."""
        work = self.case.of.flops(**self.case.sizes) or self.case.of.bytes(**self.case.sizes)
        mine = next(iter(self.timings.values()), None)
        if not work or self.peak is None or mine is None or not mine.samples:
            return None
        return work / mine.median / self.peak

    @property
    def met(self) -> bool | None:
        """Whether every goal that could be looked at is met; None where none could, False where pydl failed."""
        mine = next(iter(self.timings.values()), None)
        if mine is None or not mine.samples:
            return False
        goals = (
            (self.ratio, self.case.goal, 1),
            (mine.median, self.case.limit, 1),
            (self.share, self.case.share, -1),
        )
        seen = [value * sign <= goal * sign for value, goal, sign in goals if value is not None and goal is not None]
        return all(seen) if seen else None


@dataclass
class Outcome:
    """A whole run."""

    rows: list[Row]
    threads: int
    info: dict[str, dict[str, str]]  # what each side that runs tells about itself
    missing: dict[str, str]  # the others, and why
    flops: float | None  # a second: the middle of what was measured with the cases
    flops_source: str
    bytes: float  # copied a second, likewise
    rounds: int
    load: float  # of the system, before it began
    date: str = field(default_factory=lambda: datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"))
    cpu: str = field(default_factory=machine.cpu_name)
    python: str = field(default_factory=platform.python_version)
    system: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")


def say(text: str) -> None:
    """Progress, apart from the results on standard output."""
    print(text, file=sys.stderr, flush=True)


def start(
    names: Sequence[str], threads: int, isa: str | None, device: str = "cpu"
) -> tuple[dict[str, Side], dict[str, str]]:
    """The sides that start, and why the others do not."""
    sides, missing = {}, {}
    for name in names:
        try:
            sides[name] = Side(name, threads, isa if name == "pydl" else None, device=device)
        except SideError as error:
            missing[name] = str(error)
            say(f"{name} is left out: {error}")
    return sides, missing


def _measure(case: Case, side: Side, n: int, timing: Timing) -> None:
    try:
        timing.samples.append(side.measure(n))
    except SideError as error:
        timing.samples, timing.error = [], str(error)
        say(f"{case.name}: {side.name} fails: {error}")


def run_case(
    case: Case, sides: Mapping[str, Side], rounds: int, budget: float, peak: Callable[[], float | None] | None = None
) -> Row:
    """Checks and times one case; budget is the time of one batch in seconds. The peak takes its turn as a side does: a
    machine's clock and what its neighbours leave of it change from minute to minute.
    """
    timings: dict[str, Timing] = {}
    repetitions: dict[str, int] = {}
    reference = case.reference()
    for name, side in sides.items():
        try:
            prepared = side.prepare(case)
            if prepared is None:
                continue
            seconds, results = prepared
            timings[name] = Timing()
            case.check(results, reference)
            repetitions[name] = max(1, int(budget / seconds)) if case.unit == "s" else 1
        except (SideError, ValueError) as error:
            timings[name] = Timing(error=str(error))
            say(f"{case.name}: {name} fails: {error}")
    del reference
    peaks: list[float] = []
    for _ in range(rounds if case.unit == "s" else 1):
        for name, n in repetitions.items():
            if timings[name].error is None:
                time.sleep(_PAUSE)
                _measure(case, sides[name], n, timings[name])
        if peak is not None:
            time.sleep(_PAUSE)
            found = peak()
            if found is not None:
                peaks.append(found)
    for name in repetitions:
        with contextlib.suppress(SideError):
            sides[name].release()
    return Row(case, timings, float(np.median(peaks)) if peaks else None)


def run(
    cases: Sequence[Case],
    sides: Mapping[str, Side],
    missing: Mapping[str, str],
    threads: int,
    rounds: int,
    budget: float,
) -> Outcome:
    """All cases; a CPU's peaks take turns with the sides, a GPU's are what the cases for them reach."""
    load = os.getloadavg()[0]
    on_cpu = all(side.device == "cpu" for side in sides.values())
    copy_peak = machine.CopyPeak(threads) if on_cpu else None
    rows: list[Row] = []
    by_flops: list[Row] = []
    by_bytes: list[Row] = []
    for case in cases:
        peak: Callable[[], float | None] | None = None
        of_its_kind: list[Row] = []
        if case.of.flops(**case.sizes):
            of_its_kind, peak = by_flops, partial(machine.fma_peak, threads) if on_cpu else None
        elif case.of.bytes(**case.sizes):
            of_its_kind, peak = by_bytes, copy_peak
        row = run_case(case, sides, rounds, budget, peak)
        of_its_kind.append(row)
        medians = ", ".join(f"{name} {t.median:.4g}" for name, t in row.timings.items())
        say(f"{case.name}: {medians} {case.unit}")
        rows.append(row)
    source, fma = f"{machine.vector_bits()}-bit FMA instructions in registers", _median_peak(by_flops)
    if fma is None and on_cpu:
        fma = machine.fma_peak(threads)
    if fma is None:
        source, fma = "best matrix product of any side", _best_rate(rows, "gemm")
        for row in by_flops:
            row.peak = fma
    copy = _median_peak(by_bytes) or (copy_peak() if copy_peak else _best_rate(rows, "copy")) or 0.0
    if not on_cpu:
        for row in by_bytes:
            row.peak = copy or None
    info = {name: side.info for name, side in sides.items()}
    return Outcome(rows, threads, info, dict(missing), fma, source, copy, rounds, load)


def _median_peak(rows: Sequence[Row]) -> float | None:
    """The middle of what was measured with these cases."""
    peaks = [row.peak for row in rows if row.peak is not None]
    return float(np.median(peaks)) if peaks else None


def _best_rate(rows: Sequence[Row], kind: str) -> float | None:
    """The most work of that kind that any side did in a second."""
    rates = [
        (row.case.of.flops(**row.case.sizes) or row.case.of.bytes(**row.case.sizes)) / min(t.samples)
        for row in rows
        for t in row.timings.values()
        if row.case.kind == kind and t.samples
    ]
    return max(rates, default=None)
