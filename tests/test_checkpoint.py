"""Exact resumption: the same bytes after a SIGKILL at any step or in the middle of saving; files that are damaged or
foreign.
"""

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
from pydl.callbacks import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint
from pydl.data import ArrayDataset, DataLoader
from pydl.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

PROGRAM = """
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
    data = ArrayDataset(x[:120], y[:120])
    loader = DataLoader(data, 16, shuffle=True, transform=augment, num_workers=workers, seed=1)
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
"""
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


SAVER = """
import sys
import pydl
from pydl.train.checkpoint import Checkpoint

folder = Checkpoint(sys.argv[1])
folder.prepare()
state = folder.load("last") or {"step": 0}
step = state["step"]
while True:
    step += 1
    tensor = pydl.full((20_000,), float(step))
    folder.save({"step": step, "weights": tensor}, step, best=step % 3 == 0)
    if step % 20 == 0:
        print(step, flush=True)
"""


def kill_while_saving(tmp_path: pathlib.Path, kills: int) -> None:
    program, folder = tmp_path / "saver.py", tmp_path / "folder"
    program.write_text(SAVER)
    draw = random.Random(kills)
    last = 0
    for i in range(kills):
        process = subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # it saves all the time from here on
        time.sleep(draw.uniform(0.0, 0.02))
        process.kill()
        process.wait()
        process.stdout.close()
        checkpoint = Checkpoint(folder)
        for path in [*checkpoint.newest(), folder / "best.safetensors"]:
            state = read_checkpoint(path)
            assert bool((state["weights"] == float(state["step"])).all())
        newest = checkpoint.load("last")
        assert newest is not None
        assert newest["step"] > last, f"kill {i}"
        last = newest["step"]
        assert len(checkpoint.newest()) <= 3  # the last two, and one more where the old one was not dropped yet


def test_killed_while_saving(tmp_path: pathlib.Path) -> None:
    kill_while_saving(tmp_path, 4)


@pytest.mark.slow
def test_killed_while_saving_two_hundred_times(tmp_path: pathlib.Path) -> None:
    kill_while_saving(tmp_path, 200)


def make_trainer(**options: Any) -> Trainer:
    pydl.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    return Trainer(model, "mse", "adam", ["mae"], lr=0.01, **options)


def make_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((50, 3)).astype(np.float32)
    return x, x[:, :1] * 2 - x[:, 1:2]


def weights(trainer: Trainer) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in trainer.model.state_dict().items()}


class Leave(Callback):
    """Raises at a step, as a machine that is switched off would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.trainer.step == self.step:
            raise ConnectionError("the plug")


@pytest.mark.parametrize("step", [2, 4, 7, 8, 11])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"ema": 0.9}])
def test_resumed_in_the_middle_of_an_epoch(tmp_path: pathlib.Path, step: int, options: dict[str, Any]) -> None:
    x, y = make_data()
    steps = 4 if options.get("accumulate") else 7
    whole = make_trainer(**options)
    rest: dict[str, Any] = {
        "batch_size": 6,
        "epochs": 3,
        "verbose": 0,
        "validation_split": 0.2,
        "validation_mode": "random",
    }
    expected = whole.fit(x, y, **rest)
    assert whole.step == 3 * steps
    broken = make_trainer(**options)
    rest |= {"checkpoint": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(ConnectionError):
        broken.fit(x, y, callbacks=[Leave(step)], **rest)
    assert broken.stop_reason == "error"
    resumed = make_trainer(**options)
    pydl.manual_seed(77)
    history = resumed.fit(x, y, resume="last", **rest)
    assert history.history == expected.history
    assert weights(resumed) == weights(whole)
    assert resumed.step == whole.step


def test_resume_of_a_finished_fit_and_more_epochs(tmp_path: pathlib.Path) -> None:
    x, y = make_data()
    make_trainer().fit(x, y, epochs=2, verbose=0, checkpoint=tmp_path)
    again = make_trainer()
    assert len(again.fit(x, y, epochs=2, verbose=0, checkpoint=tmp_path, resume="last")) == 2
    assert again.step == 4
    longer = make_trainer()
    history = longer.fit(x, y, epochs=4, verbose=0, checkpoint=tmp_path, resume="last")
    whole = make_trainer()
    assert history.history == whole.fit(x, y, epochs=4, verbose=0).history
    assert weights(longer) == weights(whole)


def test_state_carried_through_sequences_is_in_the_checkpoint(tmp_path: pathlib.Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2, 4, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, x: Any, state: Any) -> Any:
            y, state = self.lstm(x, state)
            return self.head(y), state

    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((3, 10, 2)), rng.standard_normal((3, 10, 1))) for _ in range(4)]

    def trainer() -> Trainer:
        pydl.manual_seed(1)
        return Trainer(Recurrent(), "mse", "sgd", lr=0.1, tbptt=4, stateful=True)

    whole = trainer()
    whole.fit(batches, epochs=2, verbose=0)
    assert whole.step == 2 * 4 * 3
    with pytest.raises(ConnectionError):
        trainer().fit(batches, epochs=2, verbose=0, checkpoint=tmp_path, checkpoint_every=1, callbacks=[Leave(18)])
    resumed = trainer()
    resumed.fit(batches, epochs=2, verbose=0, checkpoint=tmp_path, checkpoint_every=1, resume="last")
    assert weights(resumed) == weights(whole)


def test_early_stopping_goes_on_counting(tmp_path: pathlib.Path) -> None:
    x, y = make_data()

    def fit(folder: pathlib.Path | None, leave: int | None, resume: str | None) -> Trainer:
        trainer = make_trainer()
        callbacks: list[Callback] = [EarlyStopping("loss", patience=2, min_delta=0.05)]
        if leave is not None:
            callbacks.append(Leave(leave))
        trainer.fit(x, y, epochs=100, verbose=0, callbacks=callbacks, checkpoint=folder, resume=resume)
        return trainer

    whole = fit(None, None, None)
    assert whole.stop_reason == "stopped"
    assert whole.history is not None
    steps = whole.step
    with pytest.raises(ConnectionError):
        fit(tmp_path, steps - 1, None)  # between the best epoch and the end
    resumed = fit(tmp_path, None, "last")
    assert resumed.history is not None
    assert resumed.history.history == whole.history.history
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("save_freq", ["epoch", 3])
@pytest.mark.parametrize("options", [{"ema": 0.8}, {"accumulate": 2}])
def test_resumed_from_a_file_of_model_checkpoint(tmp_path: pathlib.Path, save_freq: Any, options: Any) -> None:
    """What callbacks save in the middle of things is written when the epoch or the step is complete."""
    x, y = make_data()
    step = [lambda o: optim.lr_scheduler.StepLR(o, 1, gamma=0.9)]

    def fit(resume: Any) -> Trainer:
        trainer = make_trainer(scheduler=step, **options)
        callbacks: list[Callback] = [
            EarlyStopping("loss", patience=50),
            ModelCheckpoint(tmp_path / "{epoch}-{batch}.safetensors", "loss", save_freq=save_freq),
        ]
        rest: dict[str, Any] = {"validation_data": (x, y), "verbose": 0, "batch_size": 10}
        trainer.fit(x, y, epochs=4, callbacks=callbacks, resume=resume, **rest)
        return trainer

    whole = fit(None)
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == (4 if save_freq == "epoch" else 6)
    for path in saved[:3]:
        resumed = fit(path)
        assert weights(resumed) == weights(whole)
        assert resumed.history is not None
        assert whole.history is not None
        assert resumed.history.history == whole.history.history
        assert resumed.step == whole.step


def test_random_generators_of_modules_are_kept(tmp_path: pathlib.Path) -> None:
    trainer = make_trainer()
    trainer.model[3].noise = pydl.Generator(4)
    trainer.save(tmp_path / "a")
    before = pydl.rand(3, generator=trainer.model[3].noise).tolist(), pydl.rand(3).tolist()
    trainer.load(tmp_path / "a")
    assert (pydl.rand(3, generator=trainer.model[3].noise).tolist(), pydl.rand(3).tolist()) == before


# ---- files


def test_the_file_is_readable_by_others(tmp_path: pathlib.Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    trainer = make_trainer()
    trainer.save(tmp_path / "a.safetensors")
    read = safetensors.load_file(str(tmp_path / "a.safetensors"))
    np.testing.assert_array_equal(read["model.0.weight"], trainer.model[0].weight.detach().numpy())


@pytest.mark.parametrize(
    "state",
    [
        {"a": [1, (2.5, None), {"b": True}], "c": {1: "x", (1, 2): float("nan")}, "d": {"tensor": "a.b"}},
        {"x": {"y.z": 1, "y": {"z": 2}}, "inf": [float("inf"), -float("inf")]},
    ],
)
def test_states_come_back_as_they_were(tmp_path: pathlib.Path, state: dict[str, Any]) -> None:
    write_checkpoint(state, tmp_path / "a")
    assert repr(read_checkpoint(tmp_path / "a")) == repr(state)


def test_tensors_of_any_dtype_come_back(tmp_path: pathlib.Path) -> None:
    state = {
        "x.y": pydl.ones((2, 3)).astype(pydl.bfloat16),
        "x": {"y": pydl.arange(3), "e": pydl.zeros((0, 4))},
        "n": np.arange(4.0),
        "t": pydl.arange(6).reshape(2, 3).T,
    }
    write_checkpoint(state, tmp_path / "a")
    read = read_checkpoint(tmp_path / "a")
    assert read["x.y"].dtype == pydl.bfloat16
    assert read["x"]["y"].tolist() == [0, 1, 2]
    assert read["x"]["e"].shape == (0, 4)
    assert isinstance(read["n"], np.ndarray)
    assert read["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_what_cannot_be_kept_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TypeError, match=r"object at callbacks\.0"):
        write_checkpoint({"callbacks": [object()]}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 16
    path.write_bytes(bytes(content))


def flip_state(path: pathlib.Path) -> None:
    content = path.read_bytes()
    place = content.index(b"epochs_trained") + len("epochs_trained") + 3
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, flip_state, empty])
def test_a_damaged_newest_file_is_passed_over(tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]) -> None:
    x, y = make_data()
    whole = make_trainer()
    whole.fit(x, y, epochs=3, verbose=0)
    make_trainer().fit(x, y, epochs=2, verbose=0, checkpoint=tmp_path)
    newest = Checkpoint(tmp_path).newest()
    assert len(newest) == 2
    damage(newest[0])
    resumed = make_trainer()
    with pytest.warns(UserWarning, match=rf"{newest[0].name}.*going on from {newest[1].name}"):
        resumed.fit(x, y, epochs=3, verbose=0, checkpoint=tmp_path, resume="last")
    assert weights(resumed) == weights(whole)
    for path in Checkpoint(tmp_path).newest():
        damage(path)
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        make_trainer().fit(x, y, verbose=0, checkpoint=tmp_path, resume="last")


def test_a_foreign_file_is_refused(tmp_path: pathlib.Path) -> None:
    trainer = make_trainer()
    pydl.save(trainer.model.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="without a training's state"):
        trainer.load(tmp_path / "weights.safetensors")
    (tmp_path / "text").write_text("hello, I am no checkpoint")
    with pytest.raises(ValueError, match="no valid safetensors"):
        trainer.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        trainer.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder"):
        trainer.load(tmp_path)


def test_a_state_of_another_model_or_optimizer_is_refused(tmp_path: pathlib.Path) -> None:
    make_trainer().save(tmp_path / "a")
    with pytest.raises(ValueError, match="does not fit"):
        Trainer(nn.Linear(3, 1), "mse").load(tmp_path / "a")
    other = make_trainer()
    other.optimizer = optim.SGD(other.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="is of Adam, expected SGD"):
        other.load(tmp_path / "a")
    with pytest.raises(ValueError, match="ema"):
        make_trainer(ema=0.5).load(tmp_path / "a")


def test_a_folder_of_another_training_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    x, y = make_data()
    trainer = make_trainer()
    trainer.fit(x, y, verbose=0, checkpoint=tmp_path)
    trainer.fit(x, y, verbose=0, checkpoint=tmp_path)  # its own goes on
    with pytest.raises(FileExistsError, match="resume='last' or another folder"):
        make_trainer().fit(x, y, verbose=0, checkpoint=tmp_path)


def test_resume_asks_for_what_is_there(tmp_path: pathlib.Path) -> None:
    x, y = make_data()
    with pytest.raises(ValueError, match="without checkpoint"):
        make_trainer().fit(x, y, resume="last")
    with pytest.raises(FileNotFoundError):
        make_trainer().fit(x, y, checkpoint=tmp_path / "new", resume="best")
    fresh = make_trainer()
    fresh.fit(x, y, verbose=0, checkpoint=tmp_path / "new", resume="last")
    assert fresh.step == 2
    with pytest.raises(ValueError, match=r"100 samples|50 samples"):
        make_trainer().fit(
            np.concatenate([x, x]), np.concatenate([y, y]), verbose=0, checkpoint=tmp_path / "new", resume="last"
        )


def test_the_best_is_kept(tmp_path: pathlib.Path) -> None:
    x, y = make_data()
    trainer = make_trainer()
    trainer.optimizer.param_groups[0]["lr"] = 0.05

    class Spoil(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            assert logs is not None
            logs["val_loss"] = [3.0, 1.0, 2.0, 1.5, 4.0][epoch]

    trainer.fit(
        x, y, epochs=5, validation_data=(x, y), verbose=0, checkpoint=Checkpoint(tmp_path, keep=1), callbacks=[Spoil()]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "step-00000010.safetensors"]
    assert read_checkpoint(tmp_path / "best.safetensors")["progress"]["epoch"] == 2
    best = make_trainer()
    best.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), checkpoint=tmp_path, resume="best")
    assert best.step == 4


def test_no_words_of_ours_in_pickles(tmp_path: pathlib.Path) -> None:
    make_trainer().save(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    assert header["__metadata__"]["format"] == "pydl.checkpoint 1"


@pytest.mark.parametrize("step", [2, 6, 10])
def test_a_validation_with_random_numbers_goes_on_with_its_epoch(tmp_path: pathlib.Path, step: int) -> None:
    """Shuffled, in part, and with a transform that draws from (seed, epoch): each epoch's has its own."""
    x = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
    y = np.arange(24) % 2

    def run(folder: pathlib.Path, stop: int | None, **options: Any) -> pydl.History:
        pydl.manual_seed(1)
        trainer = pydl.Trainer(nn.Linear(4, 2), "cross_entropy", lr=0.1)
        loader = DataLoader(
            ArrayDataset(x, y), batch_size=5, shuffle=True, transform=pydl.data.transforms.RandomNoise(0.5), seed=3
        )

        def end(batch: int, logs: Any) -> None:
            trainer.stop_training = trainer.stop_training or trainer.step == stop

        return trainer.fit(
            x, y, batch_size=8, epochs=4, validation_data=loader, validation_steps=3, checkpoint=folder,
            checkpoint_every=1, callbacks=[LambdaCallback(on_train_batch_end=end)], verbose=0, **options,
        )  # fmt: skip

    whole = run(tmp_path / "whole", None)
    assert len(set(whole["val_loss"])) == 4
    run(tmp_path / "cut", step)
    newest = Checkpoint(tmp_path / "cut").newest()
    for path in newest[:-1]:
        path.unlink()  # as if it had been killed before the last was written
    assert run(tmp_path / "cut", None, resume="last").history == whole.history
