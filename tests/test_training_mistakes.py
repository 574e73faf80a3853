"""Mistakes around fit, evaluate, predict, callbacks, resuming, histories: what is said, and that no step was made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import History, Trainer, nn, optim
from pydl import callbacks as C
from pydl.data import ArrayDataset, DataLoader
from pydl.metrics import Mean
from pydl.nn import functional as F
from pydl.train import Checkpoint

X = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
Y = np.arange(30) % 3


def batches(count: int = 3) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((X[i::count], Y[i::count]) for i in range(count))


def made(**options: Any) -> Trainer:
    pydl.manual_seed(0)
    return Trainer(nn.Linear(3, 3), **{"loss": "cross_entropy", "metrics": ["accuracy"], **options})


def hook(name: str) -> C.Callback:
    return type("Mine", (C.Callback,), {name: lambda self, epoch, logs: None})()


STOP = C.EarlyStopping("loss")
FIT: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "validation of an empty iterator": ({"validation_data": iter([])}, ValueError, r"\[validation_data\] .*no batches"),
    "of one without targets": ({"validation_data": iter([(X,)])}, ValueError, r"\[validation_data\] got no y"),
    "of other features": ({"validation_data": (X[:, :2], Y)}, ValueError, r"linear[\s\S]*in \[validation_data\]"),
    "of other features, a generator": (
        {"validation_data": ((X[:, :2], Y) for _ in range(1))}, ValueError, r"linear[\s\S]*in \[validation_data\]"),
    "of four parts": ({"validation_data": (X, Y, Y, Y)}, ValueError, r"validation_data of 4 parts.*\(\(x1, x2\), y\)"),
    "a generator for three validations": (
        {"validation_data": batches(), "epochs": 3}, ValueError, r"\[validation_data\] got a generator.*3 times"),
    "a generator for three epochs": ({"x": batches(), "y": None, "epochs": 3}, ValueError, r"\[fit\] got a generator"),
    "split as a text": (
        {"validation_split": "0.2", "validation_mode": "last"}, TypeError, r"\[fit\] got validation_split='0.2'"),
    "no epoch of a list": ({"validation_freq": [0, 2]}, ValueError, "an epoch of validation_freq=0"),
    "validation steps": ({"validation_steps": 0}, ValueError, "validation_steps=0"),
    "shuffle": ({"shuffle": "batch"}, TypeError, "shuffle='batch', expected True or False"),
    "callbacks by name": ({"callbacks": "early_stopping"}, TypeError, r"\[callbacks\] got 'early_stopping'"),
    "a function as callback": ({"callbacks": [lambda epoch, logs: None]}, TypeError, "LambdaCallback"),
    "a callback twice": ({"callbacks": [STOP, STOP]}, ValueError, r"\[callbacks\] got the same EarlyStopping twice"),
    "a field of a file's name": (
        {"callbacks": [C.ModelCheckpoint("{val_loss}")]}, ValueError, r"\{val_loss\}.*there are loss, accuracy, lr"),
    "a field that batches lack": (
        {"callbacks": [C.ModelCheckpoint("{val_loss}", save_freq=2)], "validation_data": (X, Y)}, ValueError,
        r"\{val_loss\}.*there are loss, accuracy, epoch, batch"),
    "how to write a field": ({"callbacks": [C.ModelCheckpoint("{epoch:zz}")]}, ValueError, "cannot be filled"),
    "one number": ({"x": 3.0}, TypeError, r"\[fit\] got a float as x"),
    "the class of a dataset": ({"x": ArrayDataset, "y": None}, TypeError, r"the class ArrayDataset as x"),
    "whole one-hot rows": ({"y": np.eye(3, dtype=int)[Y]}, ValueError, r"one-hot, y.argmax\(axis=1\)"),
    "classes of other numbers": ({"class_weight": {7: 2.0}}, ValueError, r"class_weight of class 7.*3 outputs"),
    "all weights 0": ({"sample_weight": np.zeros(30)}, ValueError, r"sample_weight is 0 everywhere"),
    "masked values": ({"x": np.ma.masked_array(X, mask=X > 0)}, ValueError, r"\[fit\] x: .* values are masked.*filled"),
    "labels in a tuple": ({"y": tuple(Y.tolist())}, ValueError, r"y\[0\].*numbers in a tuple.*in a list for one"),
    "rows in a list": ({"x": list(X)}, ValueError, r"x\[0\] has 3.*a list of arrays is several inputs, numpy\.stack"),
    "checkpoint": ({"checkpoint": True}, TypeError, r"\[fit\] got checkpoint=True, expected the path of a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIT)
def test_fit(name: str) -> None:
    options, error, message = FIT[name]
    trainer = made()
    with pytest.raises(error, match=message):
        trainer.fit(**{"x": X, "y": Y, "verbose": 0, **options})
    assert trainer.step == 0


OTHERS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "misspelt option": (lambda: made(learning_rate=0.1), TypeError, "did you mean 'lr'"),
    "model's class": (lambda: Trainer(nn.Linear, "mse"), TypeError, r"the class Linear as model.*Linear\(\.\.\.\)"),  # type: ignore[arg-type]
    "bound as a text": (lambda: made(clip_norm="1"), TypeError, r"\[Trainer\] got clip_norm = '1'"),
    "seed": (lambda: made(seed=1.5), TypeError, r"\[Trainer\] got seed=1.5, expected an integer"),
    "monitor of the schedule": (
        lambda: made(scheduler=optim.lr_scheduler.ReduceLROnPlateau, scheduler_monitor="val_acc").fit(
            X, Y, validation_data=(X, Y), verbose=0
        ), ValueError, r"scheduler_monitor='val_acc', expected one of loss, .*val_accuracy"),
    "classes for numbers": (
        lambda: Trainer(nn.Linear(3, 3), "mse").fit(X, X, class_weight={0: 2.0}, verbose=0), ValueError,
        r"class_weight.*no class numbers"),
    "one output for two classes": (
        lambda: Trainer(nn.Linear(3, 1), "cross_entropy").fit(X, Y % 2, verbose=0), ValueError, "'bce_with_logits'"),
    "predict rows in a list": (lambda: made().predict(list(X)), TypeError, r"a list of 30 arrays.*numpy\.stack"),
    "monitor of checkpoints": (
        lambda: made().fit(X, Y, verbose=0, checkpoint=Checkpoint("never_made", monitor="val_loss")), ValueError,
        r"\[Checkpoint\] got monitor='val_loss', expected one of.*give fit validation data"),
    "fit of a model": (lambda: nn.Linear(3, 3).fit(X, Y), AttributeError, r"pydl\.Trainer\(model, loss\)\.fit\(x, y\)"),
    "nothing to evaluate by": (
        lambda: Trainer(nn.Linear(3, 3), train_step=lambda t, b: {}).evaluate(X, Y), ValueError,
        r"\[evaluate\] there is no loss and no metric"),
    "evaluate an empty iterator": (lambda: made().evaluate(iter([])), ValueError, r"\[evaluate\] .*no batches"),
    "one row that is no row": (
        lambda: Trainer(nn.Linear(3, 2), "mse").predict(X[0]), ValueError, r"\(3,\), 3 rows of one number.*x\[None\]"),
    "steps of predict": (lambda: made().predict(X, steps=0), ValueError, r"\[predict\] got steps=0"),
    "metric without return": (
        lambda: made(metrics=[lambda p, t: None]).fit(X, Y, verbose=0), TypeError, "returned None.*lack a return"),
    "metric of numbers": (lambda: made(metrics=[Mean("loss")]), TypeError, "Mean is for numbers"),
    "min_delta": (lambda: C.EarlyStopping(min_delta="small"), TypeError, r"\[EarlyStopping\] got min_delta = 'small'"),  # type: ignore[arg-type]
    "baseline": (lambda: C.EarlyStopping(baseline="x"), TypeError, r"\[EarlyStopping\] got baseline = 'x'"),  # type: ignore[arg-type]
    "min_delta NaN": (lambda: C.EarlyStopping(min_delta=np.nan), ValueError, r"\[EarlyStopping\] got min_delta=nan"),
    "misspelt patience": (lambda: C.EarlyStopping(patiance=3), TypeError, "did you mean 'patience'"),  # type: ignore[call-arg]
    "factor": (lambda: C.ReduceLROnPlateau(factor="0.1"), TypeError, r"\[ReduceLROnPlateau\] got factor = '0.1'"),  # type: ignore[arg-type]
    "no file": (lambda: C.ModelCheckpoint(None), TypeError, r"\[ModelCheckpoint\] got filepath None"),  # type: ignore[arg-type]
    "schedule of three": (
        lambda: C.LearningRateScheduler(lambda a, b, c: 0.1), TypeError, r"a function of \(epoch, lr\) or \(epoch\)"),
    "schedule object": (
        lambda: C.LearningRateScheduler(optim.lr_scheduler.StepLR(optim.SGD([pydl.ones((1,))]), 3)),  # type: ignore[arg-type]
        TypeError, r"given to the Trainer: scheduler="),
    "function of too little": (
        lambda: C.LambdaCallback(on_epoch_end=lambda epoch: None), TypeError, r"on_epoch_end=.*function of \(epoch, l"),
    "resume": (lambda: made().fit(X, Y, verbose=0, resume="latest"), FileNotFoundError, "expected 'last', 'best' or"),
    "a folder that is not there": (
        lambda: made().save(Path("no", "such", "file.safetensors")), FileNotFoundError, r"No such folder.*make it"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_others(name: str) -> None:
    call, error, message = OTHERS[name]
    with pytest.raises(error, match=message):
        call()


def test_words_that_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"initial_epoch=5 and epochs=3, so nothing is trained"):
        assert len(made().fit(X, Y, initial_epoch=5, epochs=3, verbose=0)) == 0
    for layer, loss, message in (
        (nn.Softmax(dim=1), "cross_entropy", "look like probabilities.*leave out the softmax"),
        (nn.Identity(), "nll", "no log-probabilities.*use 'cross_entropy'"),
    ):
        with pytest.warns(UserWarning, match=message):
            Trainer(nn.Sequential(nn.Linear(3, 3), layer), loss).fit(X, Y, verbose=0)
    Trainer(nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(dim=1)), "nll").fit(X, Y, verbose=0)
    with pytest.warns(UserWarning, match=r"Mine\.on_epoch_ends is never called; did you mean on_epoch_end\?"):
        C.CallbackList([hook("on_epoch_ends")])
    with pytest.warns(UserWarning, match=r"'my_number' does not say which values are better.*mode='max'"):
        C.EarlyStopping("my_number")
    assert C.EarlyStopping("my_number", mode="max").monitor.mode == "max"
    assert C.EarlyStopping("val_bleu").monitor.mode == "max"
    assert C.EarlyStopping("val_dice_loss").monitor.mode == C.EarlyStopping("f1_error").monitor.mode == "min"
    C.CallbackList([hook("on_test_epoch_end"), hook("on_batch_end")])  # names of other libraries


def test_what_looks_like_a_mistake_and_is_none() -> None:
    assert len(made(metrics=None).fit(X, Y, epochs=np.int64(2), callbacks=None, verbose=0)) == 2  # type: ignore[arg-type]
    assert made(loss=nn.CrossEntropyLoss).fit(X, Y, verbose=0)["loss"] == made().fit(X, Y, verbose=0)["loss"]
    assert made(loss=F.cross_entropy).fit(X, Y, verbose=0)["loss"] == made().fit(X, Y, verbose=0)["loss"]
    rows = np.eye(3, dtype=np.float32)[Y]
    weighted = Trainer(nn.Linear(3, 3), "mse").fit(X, rows, class_weight={0: 2.0}, verbose=0)
    assert np.isfinite(weighted["loss"][0])


def test_what_was_looked_at_ahead_comes_again() -> None:
    """Generators lose nothing to the check, with lazy layers neither; objects that begin anew are asked again."""
    for model in (nn.Linear(3, 3), nn.LazyLinear(3)):
        seen: list[int] = []
        trainer = Trainer(model, "cross_entropy")
        count = C.LambdaCallback(on_train_batch_end=lambda batch, logs, seen=seen: seen.append(batch))
        trainer.fit(batches(5), verbose=0, callbacks=count, validation_data=batches(3))
        assert seen == [0, 1, 2, 3, 4]
        assert trainer.step == 5

    class Anew:
        def __init__(self) -> None:
            self.at = 0

        def __iter__(self) -> Anew:
            self.at = 0
            return self

        def __next__(self) -> Any:
            self.at += 1
            if self.at > 2:
                raise StopIteration
            return X[self.at :: 2], Y[self.at :: 2]

    a, b = made(optimizer="sgd"), made(optimizer="sgd")
    first = a.fit(Anew(), epochs=3, validation_data=Anew(), verbose=0)
    second = b.fit([(X[1::2], Y[1::2]), (X[2::2], Y[2::2])], epochs=3, verbose=0)
    assert first["loss"] == second["loss"]
    assert len(set(first["val_loss"])) == 3
    exact = a.evaluate((X[i:], Y[i:]) for i in range(1))
    assert exact == a.evaluate(X, Y, batch_size=30)


def test_endless_data_with_numbers_of_steps() -> None:
    endless = itertools.cycle([(X, Y)])
    trainer = made()
    history = trainer.fit(endless, epochs=3, steps_per_epoch=2, validation_data=endless, validation_steps=4, verbose=0)
    assert trainer.step == 6
    assert len(history["val_loss"]) == 3
    assert trainer.evaluate(endless, steps=3) == pytest.approx(trainer.evaluate(X, Y))
    assert trainer.predict(endless, steps=2).shape == (60, 3)
    loader = DataLoader(ArrayDataset(X, Y), batch_size=10)
    np.testing.assert_array_equal(trainer.predict(loader, steps=2), trainer.predict(X)[:20])


def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    made().fit(X, Y, epochs=2, verbose=0, checkpoint=tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"optimizer": "sgd"}, "checkpoint is of Adam, expected SGD"),
        ({"ema": 0.9}, "differ in ema"),
        ({"metrics": []}, r"the metrics \['accuracy'\], expected \[\]"),
        ({"scheduler": lambda optimizer: optim.lr_scheduler.StepLR(optimizer, 1)}, "0 schedules, expected 1"),
    ]
    for options, message in cases:
        trainer = made(**options)
        with pydl.no_grad():
            trainer.model.weight.fill_(0.5)
        with pytest.raises(ValueError, match=rf"{message}[\s\S]*resume='last'.*must be the same"):
            trainer.fit(X, Y, epochs=4, verbose=0, checkpoint=tmp_path, resume="last")
        assert (trainer.model.weight.detach().numpy() == 0.5).all()


def test_tables_that_are_none(tmp_path: Path) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"epoch\xff\x00\xfe\n")
    with pytest.raises(ValueError, match=r"\[CSVLogger\].*binary\.csv.*no column 'epoch'"):
        made().fit(X, Y, verbose=0, callbacks=[C.CSVLogger(binary, append=True)])
    with pytest.raises(ValueError, match=r"\[History\.from_csv\].*binary\.csv.*no column 'epoch'"):
        History.from_csv(binary)
    other = tmp_path / "other.csv"
    history = made().fit(X, Y, epochs=2, verbose=0, callbacks=[C.CSVLogger(other, separator=";")])
    assert History.from_csv(other).history == history.history
    assert history.plot(metrics=["val_loss", "loss"]).svg == history.plot(metrics="loss").svg
    with pytest.raises(FileNotFoundError, match=r"No such folder.*make it first"):
        history.plot(tmp_path / "new" / "history.svg")
