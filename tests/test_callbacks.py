"""Callbacks: their logic on given logs, and what they do in real trainings, stopped in every way and resumed."""

from __future__ import annotations

import math
import os
import signal
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import History, nn, optim
from pydl import callbacks as C
from pydl.callbacks.event_file import crc32c
from pydl.callbacks.monitor import Monitor, larger_is_better
from pydl.train.anomaly import NotFinite


class FakeTrainer:
    """Calls the hooks with given logs; the weight is the number of the epoch, from 1."""

    def __init__(self, callback: C.Callback, lr: float = 1.0) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        self.optimizer = optim.SGD(self.model.parameters(), lr=lr)
        self.stop_training, self.stop_reason = False, None
        self.epoch = self.step = 0
        self.list = C.CallbackList([callback], self, {"epochs": 100, "steps": 1})
        self.rates: list[float] = []

    def run(self, name: str, values: list[float], first: int = 0) -> FakeTrainer:
        self.epoch = first
        self.stop_training = False
        self.list.on_train_begin({})
        for epoch, value in enumerate(values, first):
            self.epoch = epoch
            self.list.on_epoch_begin(epoch, {})
            self.list.on_train_batch_begin(0, {})
            nn.init.constant_(self.model.weight, epoch + 1.0)
            self.step += 1
            self.list.on_train_batch_end(0, {name: value})
            self.list.on_epoch_end(epoch, {name: value})
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            if self.stop_training:
                break
        self.list.on_train_end({})
        return self

    @property
    def weight(self) -> float:
        return self.model.weight.item()


# ---- the base


def test_hooks_that_nobody_overrides_cost_nothing() -> None:
    callbacks = [C.EarlyStopping(), C.ModelCheckpoint("x"), C.TensorBoard(), C.ProgressBar(2), C.CSVLogger("x")]
    hooks = C.CallbackList(callbacks).hooks
    assert {name for name, hook in hooks.items() if hook is None} >= {
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_test_batch_begin",
        "on_test_batch_end",
    }
    assert C.CallbackList([C.ModelCheckpoint("x", save_freq=3)]).hooks["on_train_batch_end"] is not None
    seen = []

    class Mine(C.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(("mine", epoch, self.trainer))

    second = C.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(("lambda", epoch, None)))
    C.CallbackList([Mine(), second], trainer="someone").on_epoch_end(7, {})
    assert seen == [("mine", 7, "someone"), ("lambda", 7, None)]
    with pytest.raises(TypeError, match=r"make one: EarlyStopping\(\)"):
        C.CallbackList([C.EarlyStopping])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="got 'on_epoch_stop', expected one of on_train_begin"):
        C.LambdaCallback(on_epoch_stop=print)
    with pytest.raises(TypeError, match="on_epoch_end=3"):
        C.LambdaCallback(on_epoch_end=3)  # type: ignore[arg-type]


def test_logs_of_a_batch_are_made_for_those_who_read_them() -> None:
    x, y = problem()
    read, kept, results = [], [], []

    class Counting(pydl.metrics.Accuracy):
        def result(self) -> float:
            results.append(1)
            return super().result()

    trainer = pydl.Trainer(nn.Linear(4, 2), "cross_entropy", "sgd", [Counting()])

    def run(function: Any) -> int:
        results.clear()
        callback = C.LambdaCallback(on_train_batch_end=function)
        trainer.fit(x, y, epochs=1, batch_size=16, callbacks=[callback], verbose=0)
        return len(results)

    silent = run(lambda batch, logs: None)
    assert silent <= 2  # at the end of the epoch
    assert run(lambda batch, logs: read.append((logs["loss"], "accuracy" in logs, sorted(logs)))) == silent + 6
    assert [entry[1:] for entry in read] == [(True, ["accuracy", "loss"])] * 6
    assert run(lambda batch, logs: kept.append(logs)) == silent + 6
    assert len({logs["loss"] for logs in kept}) == 6  # each of its own moment
    assert {**kept[0]} == dict(kept[0]) == kept[0].copy() == kept[0]


def test_states_need_the_same_callbacks() -> None:
    stop = C.EarlyStopping()
    stop.best = 0.5
    state = C.CallbackList([stop, C.LambdaCallback()]).state_dict()
    assert list(state) == ["0.EarlyStopping"]
    other = C.EarlyStopping()
    C.CallbackList([other, C.LambdaCallback()]).load_state_dict(state)
    assert other.best == 0.5
    with pytest.raises(ValueError, match=r"states of \['0.EarlyStopping'\].*same order"):
        C.CallbackList([C.LambdaCallback(), C.EarlyStopping()]).load_state_dict(state)


def test_what_is_better() -> None:
    names = ["accuracy", "val_acc", "val_auc", "precision", "val_recall", "f1", "val_f1_score", "r2", "top_5_accuracy"]
    assert all(larger_is_better(name) for name in [*names, "binary_accuracy", "out_accuracy"])
    assert not any(larger_is_better(name) for name in ("loss", "val_loss", "mse", "perplexity", "bpc", "lr"))
    least = Monitor("X", "loss", min_delta=-0.1)
    assert least.improves(0.89, 1.0)
    assert not least.improves(0.91, 1.0)
    assert least.improves(math.inf, None)
    assert not least.improves(math.nan, None)
    with pytest.raises(ValueError, match="mode='lowest'"):
        Monitor("X", "loss", "lowest")
    with pytest.warns(UserWarning, match="no 'val_loss'.*they have loss"):
        FakeTrainer(C.EarlyStopping()).run("loss", [1.0, 2.0])
    stop = C.EarlyStopping("val_acc")
    stop.set_params({"metrics": ["loss", "accuracy"]})
    with pytest.raises(ValueError, match="'val_acc', expected one of 'loss', 'accuracy'; give fit validation data"):
        stop.on_train_begin({})


# ---- EarlyStopping


@pytest.mark.parametrize(
    ("options", "values", "epochs", "weight"),
    [
        ({"patience": 2}, [5, 4, 3, 3, 4, 1], 5, 3),
        ({"patience": 2}, [5, 4, 3, 2, 1], 5, 5),
        ({"patience": 0}, [5, 4, 5, 3], 3, 2),
        ({"patience": 3}, [5, 1, 4, 3], 4, 2),  # the last epoch comes first
        ({"patience": 1, "min_delta": 0.5}, [5, 4.6, 4.2], 2, 1),
        ({"patience": 2, "mode": "max"}, [1, 3, 2, 2, 9], 4, 2),
        ({"patience": 2, "baseline": 1.0}, [5, 4, 3, 2], 2, 2),
        ({"patience": 1, "start_from_epoch": 3}, [1, 1, 1, 5, 4, 6, 2], 6, 5),
        ({"patience": 2, "restore_best_weights": False}, [1, 2, 3, 4], 3, 3),
        ({"patience": 3}, [math.nan, 2, math.nan, math.nan, math.nan], 5, 2),
        ({"patience": 9}, [math.nan, math.nan], 2, 2),  # there is no best
    ],
)
def test_early_stopping(options: dict[str, Any], values: list[float], epochs: int, weight: float) -> None:
    stop = C.EarlyStopping("loss", **options)
    trainer = FakeTrainer(stop).run("loss", values)
    assert len(trainer.rates) == epochs
    assert trainer.weight == weight
    assert (stop.stopped_epoch == -1) == (not trainer.stop_training)
    other = FakeTrainer(stop)  # a second fit begins anew
    assert other.run("loss", [100.0, 100.0, 100.0]).weight in (1, 3)


def test_early_stopping_goes_on_counting_after_a_resume() -> None:
    values = [5.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    whole = C.EarlyStopping("loss", patience=3)
    assert len(FakeTrainer(whole).run("loss", values).rates) == 5
    for cut in range(1, 5):
        first, second = C.EarlyStopping("loss", patience=3), C.EarlyStopping("loss", patience=3)
        FakeTrainer(first).run("loss", values[:cut])
        second.load_state_dict(first.state_dict())
        rest = FakeTrainer(second).run("loss", values[cut:], first=cut)
        assert (len(rest.rates) + cut, rest.weight, second.best_epoch) == (5, 2.0, 1)


def test_validation_every_other_epoch_is_no_reason_to_warn() -> None:
    x, y = problem()
    stop, less = C.EarlyStopping(patience=1, min_delta=100.0), C.ReduceLROnPlateau(patience=1)
    trainer = pydl.Trainer(nn.Linear(4, 2), "cross_entropy", "sgd")
    callbacks = [stop, less, C.ModelCheckpoint("unused", save_best_only=True, initial_value_threshold=-1.0)]
    history = trainer.fit(x, y, epochs=9, validation_data=(x, y), validation_freq=2, callbacks=callbacks, verbose=0)
    assert (len(history), stop.best_epoch, trainer.stop_reason) == (4, 1, "stopped")


def test_wrong_arguments() -> None:
    for make in (
        lambda: C.EarlyStopping(patience=-1),
        lambda: C.EarlyStopping(patience=1.5),  # type: ignore[arg-type]
        lambda: C.EarlyStopping(mode="least"),
        lambda: C.ReduceLROnPlateau(factor=1.0),
        lambda: C.ReduceLROnPlateau(min_lr=-1.0),
        lambda: C.ModelCheckpoint("x", save_freq="batch"),
        lambda: C.ModelCheckpoint(""),
        lambda: C.CSVLogger("x", separator=""),
        lambda: C.TensorBoard(update_freq="step"),
        lambda: C.TensorBoard(histogram_freq=-1),
        lambda: C.GradientHealth(every=0),
        lambda: C.SnapshotWeights(keep=0),
    ):
        with pytest.raises(ValueError, match=r"^\[\w+\] got"):
            make()
    with pytest.raises(TypeError, match="expected a name in the logs"):
        C.EarlyStopping(monitor=3)  # type: ignore[arg-type]


# ---- learning rates


def test_reduce_on_plateau_counts_as_keras_does() -> None:
    values = [5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    trainer = FakeTrainer(C.ReduceLROnPlateau("loss", factor=0.5, patience=2)).run("loss", values)
    assert trainer.rates == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    trainer = FakeTrainer(C.ReduceLROnPlateau("loss", factor=0.5, patience=2, cooldown=2, min_lr=0.3))
    assert trainer.run("loss", [4.0] * 9).rates == [1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3]
    trainer = FakeTrainer(C.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=0.5))
    assert trainer.run("loss", [4.0, 3.6, 3.4]).rates == [1, 0.1, 0.1]
    whole = FakeTrainer(C.ReduceLROnPlateau("loss", factor=0.5, patience=2)).run("loss", values).rates
    for cut in range(1, 8):
        first, second = (C.ReduceLROnPlateau("loss", factor=0.5, patience=2) for _ in range(2))
        begun = FakeTrainer(first).run("loss", values[:cut])
        second.load_state_dict(first.state_dict())
        assert begun.rates + FakeTrainer(second, begun.rates[-1]).run("loss", values[cut:], cut).rates == whole


def test_learning_rate_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    assert FakeTrainer(C.LearningRateScheduler(lambda epoch, lr: lr * 0.5)).run("loss", [1.0] * 3).rates == [
        0.5,
        0.25,
        0.125,
    ]
    trainer = FakeTrainer(C.LearningRateScheduler(lambda epoch: 0.1 * (epoch + 1), verbose=1)).run("loss", [1.0] * 2)
    assert trainer.rates == [0.1, 0.2]
    assert capsys.readouterr().out.splitlines()[1] == "Epoch 2: learning rate 0.2"
    trainer = FakeTrainer(C.LearningRateScheduler(lambda epoch: 0.5))
    trainer.optimizer.add_param_group({"params": [pydl.ones((1,), requires_grad=True)], "lr": 0.1})
    assert trainer.run("loss", [1.0]).optimizer.param_groups[1]["lr"] == pytest.approx(0.05)
    with pytest.raises(TypeError, match="gave 'fast', expected a number"):
        FakeTrainer(C.LearningRateScheduler(lambda epoch: "fast")).run("loss", [1.0])  # type: ignore[return-value]
    with pytest.raises(ValueError, match=r"gave -1\.0"):
        FakeTrainer(C.LearningRateScheduler(lambda epoch: -1.0)).run("loss", [1.0])


# ---- files


def test_model_checkpoint_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "new" / "{epoch:02d}-{loss:.1f}.safetensors")
    FakeTrainer(C.ModelCheckpoint(path, "loss", save_weights_only=True)).run("loss", [3.0, 4.0])
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["01-3.0.safetensors", "02-4.0.safetensors"]
    assert pydl.load(tmp_path / "new" / "02-4.0.safetensors")["weight"].item() == 2.0

    best = C.ModelCheckpoint(tmp_path / "best", "loss", verbose=1, save_best_only=True, save_weights_only=True)
    FakeTrainer(best).run("loss", [3.0, 2.0, math.nan, 4.0])
    assert pydl.load(tmp_path / "best")["weight"].item() == 2.0
    assert best.best == 2.0
    assert "Epoch 2: loss improved to 2, saved to" in capsys.readouterr().out
    again = C.ModelCheckpoint(tmp_path / "best", "loss", save_best_only=True, save_weights_only=True)
    again.load_state_dict(best.state_dict())
    FakeTrainer(again).run("loss", [2.5], first=4)
    assert pydl.load(tmp_path / "best")["weight"].item() == 2.0

    high = C.ModelCheckpoint(
        tmp_path / "no", "loss", save_best_only=True, save_weights_only=True, initial_value_threshold=1.0
    )
    FakeTrainer(high).run("loss", [3.0, 2.0])
    assert not (tmp_path / "no").exists()
    every = C.ModelCheckpoint(str(tmp_path / "b{epoch}-{batch}"), save_weights_only=True, save_freq=2)
    FakeTrainer(every).run("loss", [1.0] * 5)
    assert sorted(p.name for p in tmp_path.glob("b[0-9]*")) == ["b2-1", "b4-1"]
    with pytest.raises(ValueError, match=r"'\{val_loss\}'.*there are loss, epoch"):
        FakeTrainer(C.ModelCheckpoint("{val_loss}", save_weights_only=True)).run("loss", [1.0])


def test_csv_logger_resumed_anywhere_gives_the_same_file(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1 / 3, math.nan, 1e-17, 5.0]
    whole = tmp_path / "whole.csv"
    FakeTrainer(C.CSVLogger(whole)).run("loss", values)
    assert whole.read_text().splitlines()[:4] == [
        "epoch,loss",
        "0,0.30000000000000004",
        "1,0.3333333333333333",
        "2,nan",
    ]
    assert History.from_csv(whole).history["loss"][4] == 5.0
    for saved in range(len(values)):
        for killed in range(saved, len(values)):
            path = tmp_path / f"{saved}-{killed}.csv"
            first = C.CSVLogger(path)
            trainer = FakeTrainer(first)
            trainer.run("loss", values[:saved])
            state = first.state_dict()
            first.load_state_dict(state)
            trainer.run("loss", values[saved:killed], first=saved)  # written, and then lost
            if killed % 2:
                path.unlink()
            second = C.CSVLogger(path)
            second.load_state_dict(state)
            FakeTrainer(second).run("loss", values[saved:], first=saved)
            assert path.read_bytes() == whole.read_bytes()


def test_csv_logger_columns_and_appending(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log.csv"
    logger = C.CSVLogger(path, separator=";")
    logger.on_train_begin({})
    logger.on_epoch_end(0, {"loss": 1.0, "confusion_matrix": np.eye(2)})  # type: ignore[dict-item]
    logger.on_epoch_end(1, {"loss": 2.0, "val_loss": 3.0})
    assert path.read_text() == "epoch;loss;val_loss\n0;1.0;\n1;2.0;3.0\n"
    FakeTrainer(C.CSVLogger(path, separator=";", append=True)).run("loss", [7.0])  # another training: all is kept
    assert path.read_text() == "epoch;loss;val_loss\n0;1.0;\n1;2.0;3.0\n0;7.0;\n"
    FakeTrainer(C.CSVLogger(path, separator=";")).run("loss", [1.0, 2.0, 3.0])
    FakeTrainer(C.CSVLogger(path, separator=";", append=True)).run("loss", [8.0, 9.0], first=2)
    assert path.read_text() == "epoch;loss\n0;1.0\n1;2.0\n2;8.0\n3;9.0\n"
    path.write_text("a;b\n1;2\n")
    with pytest.raises(ValueError, match=r"no column 'epoch'.*append=False"):
        FakeTrainer(C.CSVLogger(path, separator=";", append=True)).run("loss", [1.0])
    with pytest.raises(ValueError, match="is a folder"):
        C.CSVLogger(tmp_path)


def fields(data: bytes) -> list[tuple[int, Any]]:
    """A protobuf message's fields, decoded here on their own."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80:
                return value, at

    found: list[tuple[int, Any]] = []
    at = 0
    while at < len(data):
        key, at = varint(at)
        kind = key & 7
        if kind == 0:
            value, at = varint(at)
        elif kind == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            size, at = varint(at)
            value, at = data[at : at + size], at + size
        found.append((key >> 3, value))
    return found


def events(folder: Path) -> list[list[dict[int, Any]]]:
    """The events of each file in the folder, whose checksums are checked."""
    files = []
    for path in sorted(folder.iterdir()):
        data, found = path.read_bytes(), []
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            for part, crc in ((data[:8], data[8:12]), (data[12 : 12 + size], data[12 + size : 16 + size])):
                rotated = (struct.unpack("<I", crc)[0] - 0xA282EAD8) & 0xFFFFFFFF
                assert ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == crc32c(part)
            found.append(dict(fields(data[12 : 12 + size])))
            data = data[16 + size :]
        files.append(found)
    return files


def scalars(file: list[dict[int, Any]]) -> list[tuple[int, str, float]]:
    found = []
    for event in file:
        for _, value in fields(event.get(5, b"")):
            parts = dict(fields(value))
            if 2 in parts:
                found.append((event[2], parts[1].decode(), parts[2]))
    return found


def test_tensorboard_files(tmp_path: Path) -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E
    x, y = pydl.rand(64, 3), pydl.arange(64) % 2
    trainer = pydl.Trainer(nn.Linear(3, 2), "cross_entropy", "sgd", ["accuracy", "confusion_matrix"], lr=0.25)
    board = C.TensorBoard(tmp_path, histogram_freq=1, update_freq=3, write_steps_per_second=True)
    history = trainer.fit(x, y, batch_size=16, epochs=2, validation_data=(x, y), callbacks=[board], verbose=0)
    (train,), (validation,) = events(tmp_path / "train"), events(tmp_path / "validation")
    assert train[0][3] == b"brain.Event:2"
    found = {(step, tag): value for step, tag, value in scalars(train)}
    assert {tag for _, tag in found} == {
        "epoch_loss",
        "epoch_accuracy",
        "epoch_learning_rate",
        "epoch_steps_per_second",
    }
    assert found[1, "epoch_loss"] == pytest.approx(history["loss"][1], rel=1e-6)
    assert found[0, "epoch_learning_rate"] == 0.25
    (batches,) = events(tmp_path / "batches")
    assert [entry[:2] for entry in scalars(batches)] == [
        (step, tag) for step in (3, 6) for tag in ("batch_loss", "batch_accuracy")
    ]
    assert scalars(validation)[0][:2] == (0, "epoch_loss")
    assert scalars(validation)[2][2] == pytest.approx(history["val_loss"][1], rel=1e-6)
    (weights,) = [
        dict(fields(value))
        for event in train
        for _, value in fields(event.get(5, b""))
        if event[2] == 1 and dict(fields(value))[1] == b"weight"
    ]
    histogram = dict(fields(weights[5]))
    w = trainer.model.weight.detach().numpy().astype(np.float64)
    np.testing.assert_allclose([histogram[i] for i in range(1, 6)], [w.min(), w.max(), 6, w.sum(), (w * w).sum()])
    limits, counts = np.frombuffer(histogram[6]), np.frombuffer(histogram[7])
    assert counts.sum() == 6
    assert limits[-1] == w.max()

    again = C.TensorBoard(tmp_path, update_freq=3)
    again.set_trainer(trainer)
    trainer.epoch = 1
    again.load_state_dict({"steps": 4})
    again.on_train_begin({})
    again.on_train_end({})
    for part, step in (("train", 1), ("validation", 1), ("batches", 5)):
        file = events(tmp_path / part)[-1]
        assert file[1][2] == step  # what was written of this step and later is to be forgotten
        assert dict(fields(file[1][7])) == {1: 1}


# ---- in real trainings


def problem(n: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    return x, (x[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(np.int64)


class ValLoss(C.Callback):
    """Puts given numbers in place of the validation loss, and notes the weights after each epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.weights = values, []  # type: ignore[var-annotated]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = self.values[epoch]
        self.weights.append({name: t.numpy().copy() for name, t in self.model.state_dict().items()})


@pytest.mark.parametrize("way", ["patience", "last epoch", "interrupt", "NaN", "error", "Ctrl-C in validation"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_early_stopping_restores_the_best_epoch_on_every_way_out(way: str, ema: float | None) -> None:
    x, y = problem()
    values = {"patience": [3.0, 1.0, 2.0, 2.0, 2.0], "last epoch": [3.0, 1.0, 2.0]}.get(way, [3.0, 1.0, 2.0, 2.0])
    noted = ValLoss(values)
    stop = C.EarlyStopping(patience=3 if way == "patience" else 50)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    trainer = pydl.Trainer(model, "cross_entropy", "adam", lr=0.05, ema=ema)

    def act(batch: int, logs: Any) -> None:
        if trainer.epoch == 3 and batch == 1:
            if way == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            elif way == "NaN":
                with pydl.no_grad():
                    model[0].weight.fill_(math.nan)
            elif way == "error":
                raise OSError("the disk is full")

    def act_in_validation(batch: int, logs: Any) -> None:
        if trainer.epoch == 3 and way == "Ctrl-C in validation":
            os.kill(os.getpid(), signal.SIGINT)

    actor = C.LambdaCallback(on_train_batch_end=act, on_test_batch_end=act_in_validation)
    fit = {"batch_size": 16, "epochs": len(values), "validation_data": (x, y), "verbose": 0}
    callbacks = [noted, stop, actor]
    if way == "NaN":
        with pytest.raises(NotFinite):
            trainer.fit(x, y, callbacks=callbacks, **fit)  # type: ignore[arg-type]
    elif way == "error":
        with pytest.raises(OSError, match="disk"):
            trainer.fit(x, y, callbacks=callbacks, **fit)  # type: ignore[arg-type]
    else:
        trainer.fit(x, y, callbacks=callbacks, **fit)  # type: ignore[arg-type]
    reasons = {"patience": "stopped", "last epoch": "completed", "NaN": "not finite", "error": "error"}
    assert trainer.stop_reason == reasons.get(way, "interrupted")
    assert len(noted.weights) == {"patience": 5, "last epoch": 3}.get(way, 3)
    assert stop.best_epoch == 1
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), noted.weights[1][name], err_msg=name)


def test_an_interrupt_in_the_first_epoch_keeps_the_weights() -> None:
    x, y = problem()
    kept: dict[str, np.ndarray] = {}
    model = nn.Linear(4, 2)

    def act(batch: int, logs: Any) -> None:
        if batch == 2:
            kept.update({name: t.numpy().copy() for name, t in model.state_dict().items()})
            os.kill(os.getpid(), signal.SIGINT)

    trainer = pydl.Trainer(model, "cross_entropy", "sgd", lr=0.1)
    callbacks = [C.EarlyStopping(), C.LambdaCallback(on_train_batch_end=act)]
    history = trainer.fit(x, y, epochs=3, batch_size=16, validation_data=(x, y), callbacks=callbacks, verbose=0)
    assert len(history) == 0
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), kept[name])


def test_terminate_on_nan_ends_quietly() -> None:
    x, y = problem()
    for check in (True, False):
        model = nn.Linear(4, 2)
        trainer = pydl.Trainer(model, "cross_entropy", "sgd", check_finite=check)

        def spoil(batch: int, logs: Any, model: Any = model, trainer: Any = trainer) -> None:
            if trainer.epoch == 1 and batch == 2:
                with pydl.no_grad():
                    model.weight.fill_(math.nan)

        callbacks = [C.LambdaCallback(on_train_batch_begin=spoil), C.TerminateOnNaN()]
        history = trainer.fit(x, y, epochs=4, batch_size=16, callbacks=callbacks, verbose=0)
        assert trainer.stop_reason == "not finite"
        assert trainer.epoch <= 2
        assert len(history) <= 2


def test_model_checkpoint_of_a_trainer_can_be_loaded(tmp_path: Path) -> None:
    x, y = problem()
    trainer = pydl.Trainer(nn.Linear(4, 2), "cross_entropy", "adam", lr=0.05)
    path = tmp_path / "{epoch}.safetensors"
    trainer.fit(x, y, epochs=2, callbacks=[C.ModelCheckpoint(path)], verbose=0)
    other = pydl.Trainer(nn.Linear(4, 2), "cross_entropy", "adam", lr=0.05)
    other.load(tmp_path / "2.safetensors")
    np.testing.assert_array_equal(other.model.weight.detach().numpy(), trainer.model.weight.detach().numpy())
    assert other.step == trainer.step


def deep(scale: float) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(16, 16), nn.Tanh()]
    model = nn.Sequential(nn.Linear(4, 16), *layers, nn.Linear(16, 2))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, scale)
    return model


def test_gradient_health_records_what_the_step_saw(tmp_path: Path) -> None:
    x, y = problem(32)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 2))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    health = C.GradientHealth(every=2)
    trainer = pydl.Trainer(model, "cross_entropy", "sgd", lr=0.1, clip_norm=1e-3)
    trainer.fit(x, y, batch_size=32, epochs=5, shuffle=False, callbacks=[health], verbose=0)
    assert health.steps == [0, 2, 4]
    assert list(health.activations) == ["0", "1", "3"]
    assert list(health.gradients) == ["0", "3"]
    assert all(module._hooks is None for module in model.modules())
    assert not trainer.optimizer._pre_hooks

    model.load_state_dict(before)
    model.zero_grad()
    hidden = model[0](pydl.asarray(x))
    loss = nn.functional.cross_entropy(model[3](hidden.relu()), pydl.asarray(y))
    loss.backward()
    rms = np.sqrt((hidden.detach().numpy().astype(np.float64) ** 2).mean())
    assert health.activations["0"][0] == pytest.approx(rms, rel=1e-6)
    norm = math.sqrt(sum(np.linalg.norm(p.grad.numpy()) ** 2 for p in model[0].parameters()))
    assert health.gradients["0"][0] == pytest.approx(norm, rel=1e-4)  # before it was clipped

    chart = health.plot(tmp_path / "health.svg")
    assert [panel.title for panel in chart.panels] == [
        "Activations by depth",
        "Gradients by depth",
        "Activations over the training",
        "Gradients over the training",
    ]
    assert list(chart.panels[1].curves[0].y) == [health.gradients["0"][0], health.gradients["3"][0]]
    assert list(chart.panels[1].x_names) == ["0 Linear", "3 Linear"]
    copy = C.GradientHealth()
    copy.load_state_dict(health.state_dict())
    assert copy.plot().svg == chart.svg


def test_gradient_health_warns() -> None:
    x, y = problem(32)
    trainer = pydl.Trainer(deep(0.02), "cross_entropy", "sgd", lr=1e-3)
    with pytest.warns(UserWarning, match=r"step 0, layer '\d+': its gradient vanishes: norm \d") as caught:
        trainer.fit(x, y, epochs=2, callbacks=[C.GradientHealth(every=1)], verbose=0)
    assert len({str(w.message).split(":")[0] for w in caught}) == len(caught)  # once for each layer
    trainer = pydl.Trainer(deep(3.0), "cross_entropy", "sgd", lr=1e-9)
    for module in trainer.model:
        if isinstance(module, nn.Tanh):
            module.forward = lambda x: x
    health = C.GradientHealth(every=1, layers="1*", verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(x, y, epochs=1, callbacks=[health], verbose=0)
    assert any("explodes" in text for text in health.warnings)
    assert all(name.startswith("1") for name in health.gradients)
    healthy = C.GradientHealth(every=1)
    good = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    pydl.Trainer(good, "cross_entropy", "sgd").fit(x, y, epochs=2, callbacks=[healthy], verbose=0)
    assert healthy.warnings == []
    with pytest.raises(ValueError, match="got 'conv', which matches none of"):
        trainer.fit(x, y, callbacks=[C.GradientHealth(layers="conv")], verbose=0)
    with pytest.raises(ValueError, match="nothing was recorded"):
        C.GradientHealth().plot()


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_snapshots_at_each_minimum_of_a_cycle(unit: str, tmp_path: Path) -> None:
    x, y = problem(64)
    length = 3 if unit == "epoch" else 12
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    trainer = pydl.Trainer(
        model,
        "cross_entropy",
        "sgd",
        lr=0.5,
        scheduler=lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, length, unit=unit),
    )
    noted: dict[int, np.ndarray] = {}

    def note(batch: int, logs: Any) -> None:
        noted[trainer.step] = model[0].weight.detach().numpy().copy()

    snapshots = C.SnapshotWeights(tmp_path / "cycles")
    callbacks = [C.LambdaCallback(on_train_batch_end=note), snapshots]
    trainer.fit(x, y, batch_size=16, epochs=9, callbacks=callbacks, verbose=0)
    assert snapshots.steps == [12, 24, 36]  # four steps an epoch
    for step, state in zip(snapshots.steps, snapshots.weights, strict=True):
        np.testing.assert_array_equal(state["0.weight"].numpy(), noted[step])
    files = sorted((tmp_path / "cycles").iterdir())
    assert [p.name for p in files] == [f"snapshot-00{i}.safetensors" for i in (1, 2, 3)]
    np.testing.assert_array_equal(pydl.load(files[1])["0.weight"].numpy(), noted[24])

    mean = np.mean([noted[step] for step in (12, 24, 36)], axis=0, dtype=np.float64)
    np.testing.assert_allclose(snapshots.average()["0.weight"].numpy(), mean, rtol=1e-6)
    own = model[0].weight.detach().numpy().copy()
    each = []
    for step in (12, 24, 36):
        nn.init.constant_(model[0].weight, 0.0)
        model.load_state_dict(snapshots.weights[(12, 24, 36).index(step)])
        each.append(trainer.predict(x))
    np.testing.assert_allclose(snapshots.predict(x), np.mean(each, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), own)

    plain = C.SnapshotWeights(keep=1)
    pydl.Trainer(nn.Linear(4, 2), "cross_entropy", "sgd").fit(x, y, epochs=2, callbacks=[plain], verbose=0)
    assert plain.weights == []
    with pytest.raises(ValueError, match="no snapshot"):
        plain.average()


def test_resumed_from_a_checkpoint_everything_goes_on(tmp_path: Path) -> None:
    """Interrupted in the middle of each epoch in turn: the files and counters end the same as without."""
    x, y = problem()

    def run(folder: Path, stop_at: int | None, resume: str | None = None) -> tuple[Any, ...]:
        pydl.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 2))
        schedule = {"scheduler": lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 8, unit="step")}
        trainer = pydl.Trainer(model, "cross_entropy", "sgd", ["accuracy"], lr=0.3, **schedule)  # type: ignore[arg-type]

        def act(batch: int, logs: Any) -> None:
            if trainer.step == stop_at and resume is None:
                os.kill(os.getpid(), signal.SIGINT)

        stop, snapshots, health = C.EarlyStopping(patience=4), C.SnapshotWeights(), C.GradientHealth(every=5)
        callbacks = [stop, C.CSVLogger(folder / "log.csv"), snapshots, health, C.LambdaCallback(on_train_batch_end=act)]
        history = trainer.fit(
            x, y, batch_size=16, epochs=5, validation_data=(x[:32], y[:32]), callbacks=callbacks, verbose=0,
            checkpoint=folder / "checkpoints", resume=resume,
        )  # fmt: skip
        weights = [t.numpy().tobytes() for t in model.state_dict().values()]
        states = [t.numpy().tobytes() for state in snapshots.weights for t in state.values()]
        records = str(health.steps), str(health.gradients), str(health.activations)
        log = (folder / "log.csv").read_bytes()
        return weights, states, records, log, str(history.history), stop.best_epoch, stop.wait, snapshots.steps

    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", None)
    assert len(whole[7]) == 3
    for step in (1, 8, 15, 24):
        folder = tmp_path / str(step)
        folder.mkdir()
        run(folder, step)
        (folder / "log.csv").write_text("epoch,loss\n0,7.0\n1,8.0\n2,9.0\n3,9.0\n")  # of a moment that is lost
        assert run(folder, None, "last") == whole


def test_a_hook_with_other_arguments_is_refused_before_training() -> None:
    class Short(C.Callback):
        def on_epoch_end(self, epoch: int) -> None:  # type: ignore[override]
            pass

    with pytest.raises(
        TypeError, match=r"Short.on_epoch_end takes \(self, epoch\), expected \(self, epoch, logs=None\)"
    ):
        C.CallbackList([Short()])

    class Any_(C.Callback):  # noqa: N801
        def on_epoch_end(self, *args: Any) -> None:
            pass

        def on_train_end(self, logs: Any = None, further: int = 3) -> None:
            pass

    C.CallbackList([Any_()])


def test_stopping_as_kerass_callbacks_do() -> None:
    class Stop(C.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    model = pydl.nn.Linear(2, 1)
    trainer = pydl.Trainer(model, "mse")
    x = np.ones((4, 2), np.float32)
    assert len(trainer.fit(x, x[:, :1], epochs=5, verbose=0, callbacks=[Stop()])["loss"]) == 2
    assert trainer.stop_reason == "stopped"
    assert len(trainer.fit(x, x[:, :1], epochs=1, verbose=0)["loss"]) == 1
    with pytest.raises(TypeError, match=r"^\[fit\] got resume=True"):
        trainer.fit(x, x[:, :1], resume=True)
