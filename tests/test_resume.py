"""The promise: the same bytes for any number of threads, and after a kill -9 at any moment."""

from __future__ import annotations

import pathlib
import random
import subprocess
import sys
import time

import pytest

import pydl
from pydl.train.char_lm import CharLMTrainer, SavedRun, TrainingObserver, TrainingOptions

FILES = ("checkpoint.safetensors", "history.csv", "samples.txt")
FLAGS = (
    "--hidden 24 --embed 16 --seq-length 12 --batch-size 6 --dropout 0.2 --lr-decay 0.9 --epochs 6"
    " --eval-every 13 --sample-every 17 --save-every 7 --val-frac 0.1 --seed 11"
)


def write_text(path: pathlib.Path, words: int = 2500) -> pathlib.Path:
    draw = random.Random(4)
    path.write_text(" ".join(draw.choice(["sun", "moon", "stars", "and", "rivers", "\n"]) for _ in range(words)))
    return path


def train(cell: str, text: pathlib.Path, out: pathlib.Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = ["charlm", "train", str(text), "--out", str(out), "--cell", cell, *FLAGS.split(), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "pydl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_and_compare(cell: str, kills: int, tmp_path: pathlib.Path) -> None:
    text, whole = write_text(tmp_path / "text.txt"), tmp_path / "whole"
    begin = time.monotonic()
    assert train(cell, text, whole).wait() == 0
    duration = time.monotonic() - begin
    draw = random.Random(kills)
    interrupted = 0
    for i in range(kills):
        out = tmp_path / f"run{i}"
        process = train(cell, text, out)
        time.sleep(draw.uniform(0.15, 1.0) * duration)
        interrupted += process.poll() is None
        process.kill()
        process.wait()
        if draw.random() < 0.5:  # once more, in the resumed run
            process = train(cell, text, out, "--resume")
            time.sleep(draw.uniform(0.0, 0.5) * duration)
            process.kill()
            process.wait()
        assert train(cell, text, out, "--resume").wait() == 0
        for name in FILES:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), f"kill {i}: {name}"
        assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert interrupted > 0


def test_killed_and_resumed(tmp_path: pathlib.Path) -> None:
    kill_and_compare("lstm", 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_killed_and_resumed_twenty_times(cell: str, tmp_path: pathlib.Path) -> None:
    kill_and_compare(cell, 20, tmp_path)


class _StopAfterOneStep(TrainingObserver):
    def on_step(self, trainer: CharLMTrainer, loss: float) -> None:
        trainer.stop()


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_stopped_at_every_step(cell: str, tmp_path: pathlib.Path) -> None:
    text = write_text(tmp_path / "text.txt", 400).read_text()
    options = TrainingOptions(
        cell=cell, hidden=8, layers=2, seq_length=7, batch_size=5, dropout=0.3, max_iters=60, eval_every=7,
        sample_every=9, save_every=1000, val_frac=0.1,
    )  # fmt: skip
    whole = CharLMTrainer(text, tmp_path / "whole", options)
    assert len(whole.stream) < 60  # the state is set back on the way
    whole.fit()
    out = tmp_path / "run"
    trainer = CharLMTrainer(text, out, options)
    while not trainer.finished:
        before = trainer.iteration
        trainer.observer = _StopAfterOneStep()
        trainer.fit()
        assert trainer.iteration == before + 1
        pydl.manual_seed(12345)  # whatever else has drawn in between
        trainer = CharLMTrainer.resume(SavedRun.read(out), text)
    for name in FILES:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_was_written_after_the_checkpoint_is_cut_back(tmp_path: pathlib.Path) -> None:
    text, whole, out = write_text(tmp_path / "text.txt"), tmp_path / "whole", tmp_path / "run"
    assert train("gru", text, whole, "--max-iters", "50", "--epochs", "6").wait() == 0
    assert train("gru", text, out, "--max-iters", "30", "--epochs", "6").wait() == 0
    options = ["--max-iters", "50", "--epochs", "6", "--resume"]
    (out / "history.csv").write_text((whole / "history.csv").read_text() + "junk\n")
    (out / "samples.txt").unlink()
    (out / ".checkpoint.safetensors.0123456789abcdef.tmp").write_bytes(b"half a")
    assert train("gru", text, out, *options).wait() == 0
    # The shorter run evaluated and sampled at its own end; otherwise the two are one.
    rows = [line for line in (out / "history.csv").read_text().splitlines() if not line.startswith("30,")]
    assert rows[:3] == (whole / "history.csv").read_text().splitlines()[:3]
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_same_bytes_for_any_number_of_threads(cell: str, tmp_path: pathlib.Path, threads: None) -> None:
    text = write_text(tmp_path / "text.txt", 8000).read_text()
    options = TrainingOptions(
        cell=cell,
        hidden=64,
        layers=2,
        embed=48,
        seq_length=20,
        batch_size=24,
        dropout=0.1,
        max_iters=200,
        sample_every=100,
    )
    for count in (1, 2, 3, 4, 8):
        pydl.set_num_threads(count)
        CharLMTrainer(text, tmp_path / str(count), options).fit()
        for name in FILES:
            assert (tmp_path / str(count) / name).read_bytes() == (tmp_path / "1" / name).read_bytes(), (count, name)
