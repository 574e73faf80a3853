"""Exact resumption: the same bytes after a SIGKILL at any step or in the middle of saving; files that are damaged or foreign."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import Trainer, nn, optim
from pydl.callbacks import Callback, CSVLogger, EarlyStopping
from pydl.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

PROGRAM = '''
import os, signal, sys
import numpy as np
import pydl
from pydl import nn, optim
from pydl.callbacks import Callback, CSVLogger
from pydl.data import ArrayDataset, DataLoader
from pydl.data import transforms

class KillAt(Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.trainer.step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)

def main():
    out, workers = sys.argv[1], int(sys.argv[2])
    pydl.manual_seed(5)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((150, 1, 8, 8)).astype(np.float32)
    y = rng.integers(0, 3, 150)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3)
    )
    augment = transforms.Compose([transforms.RandomFlip(), transforms.RandomNoise(0.1), transforms.RandomShift(0.2)])
    loader = DataLoader(ArrayDataset(x[:120], y[:120]), 16, shuffle=True, transform=augment, num_workers=workers, seed=1)
    trainer = pydl.Trainer(
        model, "cross_entropy", "adam", ["accuracy"], lr=0.02, ema=0.8, clip_norm=1.0,
        scheduler=[
            lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.7),
            lambda o: optim.lr_scheduler.WarmupLR(o, 5, unit="step"),
        ],
    )
    history = trainer.fit(
        loader, epochs=4, validation_data=(x[120:], y[120:]), verbose=0, checkpoint=out + "/run", checkpoint_every=3,
        resume="last", callbacks=[CSVLogger(out + "/log.csv"), KillAt()],
    )
    history.to_csv(out + "/history.csv")
    pydl.save(model.state_dict(), out + "/weights.safetensors")
    np.save(out + "/predictions.npy", trainer.predict(x))

if __name__ == "__main__":
    main()
'''
RESULTS = ("history.csv", "log.csv", "weights.safetensors", "predictions.npy")
STEPS = 4 * 8


def run_program(path: pathlib.Path, out: pathlib.Path, workers: int, kill_at: int | None = None) -> int:
    environment = {**os.environ, "PYDL_NUM_THREADS": "1"}
    if kill_at is not None:
        environment["KILL_AT"] = str(kill_at)
    return subprocess.run([sys.executable, str(path), str(out), str(workers)], env=environment, timeout=300).returncode


def kill_and_compare(tmp_path: pathlib.Path, kills: int, workers: int, runs: int) -> None:
    """`kills` kills at random steps, spread over `runs` runs; each ends with the bytes of one that was not killed."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_program(program, whole, 0) == 0
    draw = random.Random(kills)
    for i in range(runs):
        out = tmp_path / f"killed{i}"
        out.mkdir()
        for step in sorted(draw.sample(range(1, STEPS + 1), kills // runs)):
            assert run_program(program, out, workers, step) == -signal.SIGKILL
        assert run_program(program, out, workers) == 0
        for name in RESULTS:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), f"run {i}: {name}"
        assert len(list((out / "run").iterdir())) == 3  # the last two and the best


def test_killed_at_random_steps(tmp_path: pathlib.Path) -> None:
    kill_and_compare(tmp_path, 3, 0, 1)


@pytest.mark.slow
def test_killed_at_twenty_random_steps_with_workers(tmp_path: pathlib.Path) -> None:
    kill_and_compare(tmp_path, 20, 2, 4)
