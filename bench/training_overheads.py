"""`python -m bench.training_overheads`: what Trainer.fit costs beside the steps themselves, and predict of one row.

Three costs that are to stay small: the watch for numbers that are not finite (1 % of a step), the loader's of an epoch
for arrays in memory (5 %), and a prediction of one row (20 µs). The watch is measured in two ways. Its own work is
timed call by call, so that a busy machine cannot hide it. And epochs with and without it take turns in one fit; of the
ratios of neighbours' processor time there is the median, with the interval that holds it in 95 of 100 cases.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import pydl
from bench import machine
from bench.report import quantity
from pydl import nn
from pydl.callbacks import Callback

WATCH_LIMIT, LOADER_LIMIT, PREDICT_LIMIT = 0.01, 0.05, 20e-6
_TURN = 0.04  # seconds with the watch, or without it


class Network(NamedTuple):
    """A model with the data it is trained on."""

    name: str
    model: Callable[[], nn.Module]
    rows: int
    shape: tuple[int, ...]  # of a sample
    classes: int
    batch_size: int


class LastStep(nn.Module):
    """An LSTM whose last output is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 64, batch_first=True), nn.Linear(64, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def _mlp(*sizes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _cnn() -> nn.Module:
    block = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*block, nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 12 * 12, 10))


NETWORKS = [
    Network("MLP 2x32", lambda: _mlp(20, 32, 32, 2), 10_000, (20,), 2, 32),
    Network("MLP of MNIST", lambda: _mlp(784, 256, 128, 10), 12_800, (784,), 10, 128),
    Network("small CNN", _cnn, 640, (1, 28, 28), 10, 32),
    Network("LSTM 64, 30 steps", LastStep, 1_280, (30, 16), 4, 32),
]
LOADED = [(10_000, 20), (60_000, 784)]  # rows and columns; the model is MLP 2x32, the batch 32


def _data(rows: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, *shape), np.float32), rng.integers(0, classes, rows)


class _Watched(Callback):
    """Times each epoch, and what the watch does between its steps; every other epoch goes without the watch."""

    def __init__(self, alternate: bool) -> None:
        self.alternate = alternate
        self.times: dict[bool, list[float]] = {True: [], False: []}
        self.own = 0.0
        self.recorder: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.recorder = self.trainer._fitting.recorder
        if not self.alternate:
            self._time(self.recorder, "note")
            self._time(self.recorder, "epoch_begins")
            self._time(self.trainer._fitting, "_check_weights")

    def _time(self, owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def timed(*args: Any) -> None:
            begin = time.perf_counter()
            method(*args)
            self.own += time.perf_counter() - begin

        setattr(owner, name, timed)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.watch = not self.alternate or epoch % 4 in (0, 3)  # on off off on: neither is always the first
        self.trainer.check_finite = self.watch
        self.trainer._fitting.recorder = self.recorder if self.watch else None
        self.begin, self.busy = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        busy, taken = time.process_time() - self.busy, time.perf_counter() - self.begin
        self.times[self.watch].append(busy if self.alternate else taken)
        if not self.watch:
            self.recorder._taken += taken  # a copy falls due by the time that is watched


def _counting() -> float:
    """Seconds that a step pays where the watch only counts it: what run_epoch and compute_loss do then."""
    trainer = pydl.Trainer(nn.Linear(1, 1), "mse")
    recorder: Any = type("Recorder", (), {})()
    recorder.unasked, value, n = 1 << 40, 0.5, 20_000

    def watched() -> float:
        begin = time.perf_counter()
        for _ in range(n):
            if recorder is not None and recorder.unasked:
                recorder.unasked -= 1
            if trainer.check_finite and not math.isfinite(value):
                raise AssertionError
        return time.perf_counter() - begin

    def bare() -> float:
        begin = time.perf_counter()
        for _ in range(n):
            pass
        return time.perf_counter() - begin

    return (min(watched() for _ in range(9)) - min(bare() for _ in range(9))) / n


def _median(values: list[float]) -> tuple[float, float, float]:
    """The median, and the ranks between which it lies in 95 of 100 cases."""
    values = sorted(values)
    n = len(values)
    half = 0.98 * math.sqrt(n)  # 1.96 standard deviations of a binomial count of n fair coins
    low, high = max(0, math.floor((n - 1) / 2 - half)), min(n - 1, math.ceil((n - 1) / 2 + half))
    return statistics.median(values), values[low], values[high]


class Watch(NamedTuple):
    """What the watch costs one network."""

    name: str
    step: float  # seconds, the mean
    own: float  # seconds a step, the mean in the same run: both were disturbed alike
    ratio: float  # on / off - 1
    low: float
    high: float


def watch(network: Network, seconds: float) -> Watch:
    """Measure the watch in both ways."""
    x, y = _data(network.rows, network.shape, network.classes)
    steps = -(-network.rows // network.batch_size)

    def fit(alternate: bool, rows: int, epochs: int) -> _Watched:
        pydl.manual_seed(0)
        callback = _Watched(alternate)
        trainer = pydl.Trainer(network.model(), "cross_entropy", lr=1e-3)
        trainer.fit(x[:rows], y[:rows], network.batch_size, epochs, callbacks=[callback], verbose=0)
        return callback

    step = min(fit(False, network.rows, 2).times[True]) / steps
    alone = fit(False, network.rows, max(2, round(seconds / 3 / (steps * step))))
    few = min(steps, max(4, round(_TURN / step)))
    turns = fit(True, few * network.batch_size, 4 * max(1, round(seconds / 6 / (few * step))))
    made = steps * len(alone.times[True])
    step = sum(alone.times[True]) / made
    own = alone.own / made + _counting()
    ratios = [on / off - 1 for on, off in zip(turns.times[True], turns.times[False])]
    return Watch(network.name, step, own, *_median(ratios))


def loader_share(rows: int, columns: int, seconds: float) -> tuple[float, float, float]:
    """Processor time of an epoch of the batches alone, of fit's, and of fit's with the arrays' parts in their order as
    batches, which nobody gathers: medians of turns. What the loader has read the step finds in the cache.
    """
    x, y = _data(rows, (columns,), 2)
    trainer = pydl.Trainer(_mlp(columns, 32, 32, 2), "cross_entropy", lr=1e-3, check_finite=False)
    loader = trainer._loader("fit", x, y, None, 32, shuffle=True)
    inputs, targets = loader.dataset.arrays
    parts = [(inputs[i : i + 32], targets[i : i + 32]) for i in range(0, rows, 32)]
    jobs: list[Callable[[], object]] = [
        lambda: [None for _ in loader],
        lambda: trainer.fit(loader, verbose=0),
        lambda: trainer.fit(parts, verbose=0),
    ]
    times: list[list[float]] = [[] for _ in jobs]
    jobs[1]()
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < end:
        for job, found in zip(jobs, times):
            begin = time.process_time()
            job()
            found.append(time.process_time() - begin)
    alone, whole, ungathered = (statistics.median(found) for found in times)
    return alone, whole, ungathered


def predict_one(seconds: float) -> float:
    """Processor time of ``predict`` of one row by MLP 2x32: the median."""
    trainer = pydl.Trainer(_mlp(20, 32, 32, 2), "cross_entropy")
    row = _data(1, (20,), 2)[0]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.process_time()
        for _ in range(100):
            trainer.predict(row)
        times.append((time.process_time() - begin) / 100)
    return statistics.median(times)


def report(seconds: float, words: list[str]) -> list[str]:
    """The lines of all tables, measuring each for about so long."""
    lines = ["| watch of | step | its own work | share | on / off - 1 | 95 % interval | goal | met |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | --- | --- | --- |")
    for network in NETWORKS:
        if not any(word in network.name for word in words):
            continue
        w = watch(network, seconds)
        share = w.own / w.step
        met = "yes" if share <= WATCH_LIMIT and w.low <= WATCH_LIMIT else "no"
        lines.append(
            f"| {w.name} | {quantity(w.step, 's')} | {quantity(w.own, 's')} | {share:.2%} | {w.ratio:+.2%} | "
            f"{w.low:+.2%} – {w.high:+.2%} | ≤ {WATCH_LIMIT:.0%} | {met} |"
        )
    lines += [
        "",
        "| loader of | its epoch | fit's epoch | share | fit's without it | goal | met |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for rows, columns in LOADED:
        alone, whole, without = loader_share(rows, columns, seconds)
        met = "yes" if alone <= LOADER_LIMIT * whole else "no"
        lines.append(
            f"| {rows:,} x {columns} | {quantity(alone, 's')} | {quantity(whole, 's')} | {alone / whole:.1%} | "
            f"{quantity(without, 's')} | ≤ {LOADER_LIMIT:.0%} | {met} |"
        )
    one = predict_one(seconds)
    met = "yes" if one <= PREDICT_LIMIT else "no"
    return [*lines, "", f"predict of 1 row: {quantity(one, 's')}, goal ≤ {quantity(PREDICT_LIMIT, 's')}, met: {met}"]


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.training_overheads", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each measurement, about; default 6")
    parser.add_argument("--only", default="", metavar="WORDS", help="networks with one of these words in their name")
    arguments = parser.parse_args()
    if arguments.threads < 1 or arguments.seconds <= 0:
        parser.error("--threads must be 1 or more, --seconds above 0")
    threads = machine.pin(arguments.threads)
    pydl.set_num_threads(threads)
    print(f"{machine.cpu_name()}, {threads} threads, pydl's ISA level {pydl.backend.info()['isa']}\n")
    for line in report(arguments.seconds, arguments.only.split(",")):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
