"""What Keras's documentation says of fit, evaluate, predict and the callbacks, against rules written out here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import Trainer, nn, optim
from pydl import callbacks as C
from pydl import metrics as M
from pydl.data import ArrayDataset, DataLoader

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((23, 3)).astype(np.float32), RNG.integers(0, 3, 23)


def made(**options: Any) -> Trainer:
    pydl.manual_seed(0)
    return Trainer(nn.Linear(3, 3), **{"loss": "cross_entropy", "metrics": ["accuracy"], **options})


def losses(trainer: Trainer) -> np.ndarray:
    """Of each sample, by the formula."""
    logits = trainer.predict(X).astype(np.float64)
    return np.asarray(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(Y)), Y])


class Given(C.Callback):
    """Gives the logs these values, one an epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["loss"] = self.values[epoch]


def trained(values: list[float], *callbacks: C.Callback, lr: float = 1.0) -> Trainer:
    trainer = Trainer(nn.Linear(1, 1), "mse", optim.SGD, lr=None)
    trainer.optimizer.param_groups[0]["lr"] = lr
    one = np.ones((1, 1), np.float32)
    trainer.fit(one, one, epochs=len(values), verbose=0, callbacks=[Given(values), *callbacks])
    return trainer


def stops_after(values: list[float], patience: int, delta: float, baseline: float | None, start: int, sign: int) -> int:
    """EarlyStopping as documented: epochs that are done until ``patience`` of them brought no improvement."""
    best, wait = math.inf, 0
    for epoch, value in enumerate(sign * v for v in values):
        if epoch < start:
            continue
        wait += 1
        if value < best - delta:
            best = value
            if baseline is None or value < sign * baseline - delta:
                wait = 0
                continue
        if wait >= patience and epoch > 0:
            return epoch + 1
    return len(values)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_early_stopping_on_many_curves(mode: str) -> None:
    rng, sign = np.random.default_rng(5), 1 if mode == "min" else -1
    ends = set()
    for _ in range(60):
        values = np.round(rng.random(9) * 4, 1).tolist()
        patience, delta, start = int(rng.integers(0, 4)), float(rng.choice([0.0, 0.5, 1.5])), int(rng.integers(0, 4))
        baseline = [None, 1.0, 3.0][rng.integers(3)]
        stop = C.EarlyStopping("loss", delta, patience, mode=mode, baseline=baseline, start_from_epoch=start)
        trainer = trained(values, stop)
        expected = stops_after(values, patience, delta, baseline, start, sign)
        assert len(trainer.history or ()) == expected, (values, patience, delta, baseline, start)
        ends.add(expected)
    assert len(ends) > 4


def rates_of(
    values: list[float], factor: float, patience: int, delta: float, cooldown: int, least: float
) -> list[float]:
    """ReduceLROnPlateau as documented; the rate that each epoch is logged with is the one before its end."""
    rate, best, wait, rest, rates = 1.0, math.inf, 0, 0, []
    for value in values:
        rates.append(rate)
        if rest > 0:
            rest, wait = rest - 1, 0
        if value < best - delta:
            best, wait = value, 0
        elif rest == 0:
            wait += 1
            if wait >= patience and rate > least:
                rate, rest, wait = max(rate * factor, least), cooldown, 0
    return rates


def test_reduce_lr_on_plateau_on_many_curves() -> None:
    rng = np.random.default_rng(6)
    for _ in range(40):
        values = np.round(rng.random(12), 1).tolist()
        options: dict[str, Any] = {
            "factor": 0.5, "patience": int(rng.integers(0, 4)), "min_delta": float(rng.choice([0.0, 0.2])),
            "cooldown": int(rng.integers(0, 3)), "min_lr": float(rng.choice([0.0, 0.3])),
        }  # fmt: skip
        trainer = trained(values, C.ReduceLROnPlateau("loss", **options))
        assert trainer.history is not None
        expected = rates_of(values, *options.values())
        assert trainer.history["lr"] == pytest.approx(expected), (values, options)


def test_model_checkpoints_of_batches_and_epochs(tmp_path: Path) -> None:
    """Epoch and batch count from 1, the batch in its epoch; every ``save_freq`` batches, over the epochs' ends."""
    save = C.ModelCheckpoint(tmp_path / "a{epoch}-{batch}-{accuracy:.2f}", save_weights_only=True, save_freq=3)
    made().fit(X, Y, batch_size=6, epochs=3, callbacks=[save], verbose=0)  # 4 batches an epoch
    assert [p.name[:5] for p in sorted(tmp_path.glob("a*"))] == ["a1-3-", "a2-2-", "a3-1-", "a3-4-"]
    save = C.ModelCheckpoint(tmp_path / "b{epoch:02d}-{val_loss:.2f}", save_weights_only=True)
    history = made().fit(
        X, Y, epochs=3, validation_data=(X, Y), validation_freq=2, callbacks=[save], verbose=0
    )  # fmt: skip
    names = [f"b01-{math.nan:.2f}", f"b02-{history['val_loss'][1]:.2f}", f"b03-{math.nan:.2f}"]
    assert [p.name for p in sorted(tmp_path.glob("b*"))] == names
    best = C.ModelCheckpoint(tmp_path / "c{epoch}", "loss", save_best_only=True, save_weights_only=True)
    for first in (0, 3):  # the best of the fit before has to be beaten
        trainer = made()
        trainer.fit(
            X, Y, epochs=3, callbacks=[Given([3.0, 2.0, 2.5][::-1] if first else [3.0, 2.0, 2.5]), best], verbose=0
        )
    assert sorted(p.name for p in tmp_path.glob("c*")) == ["c1", "c2"]


def test_numbers_of_epochs_steps_and_validations() -> None:
    seen: list[float] = []
    schedule = C.LearningRateScheduler(lambda epoch, lr: seen.append(lr) or 0.1 * (epoch + 1))
    history = made().fit(X, Y, epochs=5, initial_epoch=3, callbacks=[schedule], verbose=0)
    assert history.epoch == [3, 4]
    assert history["lr"] == pytest.approx([0.4, 0.5])
    assert seen == pytest.approx([0.001, 0.4])

    for freq, epochs in ((2, {2, 4}), ([1, 5], {1, 5}), (range(2, 4), {2, 3})):
        history = made().fit(X, Y, epochs=5, validation_data=(X, Y), validation_freq=freq, verbose=0)
        assert {i + 1 for i, value in enumerate(history["val_loss"]) if not math.isnan(value)} == epochs

    trainer = made()
    trainer.fit(X, Y, batch_size=6, epochs=3, steps_per_epoch=3, verbose=0)
    assert trainer.step == 9
    batches: list[int] = []
    count = C.LambdaCallback(on_test_batch_end=lambda batch, logs: batches.append(batch))
    history = made(lr=0.0).fit(
        X,
        Y,
        epochs=2,
        validation_data=(X, Y),
        validation_steps=2,
        validation_batch_size=5,
        callbacks=[count],
        verbose=0,
    )
    assert batches == [0, 1, 0, 1]
    assert history["val_loss"] == pytest.approx([losses(made())[:10].mean()] * 2, rel=1e-6)


def test_weights_of_classes_and_samples() -> None:
    """Σ w·l / N; of the training loss alone, and in a validation those of its own triple."""
    factors, weight = {0: 2.0, 1: 0.0}, RNG.random(23)
    each = losses(made())
    by_class = np.array([2.0, 0.0, 1.0])[Y]
    history = made(lr=0.0).fit(
        X, Y, batch_size=23, class_weight=factors, validation_data=(X, Y, weight), verbose=0
    )  # fmt: skip
    assert history["loss"] == pytest.approx([(each * by_class).sum() / 23], rel=1e-6)
    assert history["val_loss"] == pytest.approx([(each * weight).sum() / 23], rel=1e-6)
    both = made(lr=0.0).fit(X, Y, batch_size=23, class_weight=factors, sample_weight=weight, verbose=0)
    assert both["loss"] == pytest.approx([(each * by_class * weight).sum() / 23], rel=1e-6)


def test_metrics_of_uneven_batches_with_masks() -> None:
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    x = RNG.standard_normal((23, 5, 3)).astype(np.float32)
    y, mask = RNG.integers(0, 4, (23, 5)), RNG.random((23, 5)) < 0.6
    mask[6:12] = False  # whole batches that count for nothing
    pydl.manual_seed(0)
    trainer = Trainer(nn.Linear(3, 4), "cross_entropy", metrics=["accuracy", "perplexity", M.F1Score(average="macro")])
    logits = trainer.predict(x).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    loss = -np.take_along_axis(log_p, y[..., None], axis=-1)[..., 0][mask].mean()
    predicted = logits.argmax(axis=-1)[mask]
    expected = {
        "loss": loss, "accuracy": (predicted == y[mask]).mean(), "perplexity": math.exp(loss),
        "f1": f1_score(y[mask], predicted, average="macro"),
    }  # fmt: skip
    for size in (1, 4, 6, 23):
        found = trainer.evaluate(x, y, batch_size=size, sample_weight=mask)
        assert found == pytest.approx(expected, rel=2e-6), size


def test_what_evaluate_and_predict_give_and_print(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = made()
    alone = Trainer(trainer.model, "cross_entropy")
    loss = losses(trainer).mean()
    assert trainer.evaluate(X, Y) == pytest.approx(
        {"loss": loss, "accuracy": (trainer.predict(X).argmax(1) == Y).mean()}
    )
    assert trainer.evaluate(X, Y, return_dict=False) == list(trainer.evaluate(X, Y).values())
    assert alone.evaluate(X, Y, return_dict=False) == pytest.approx(loss)
    loader = DataLoader(ArrayDataset(X, Y, np.ones(23)), batch_size=7)
    np.testing.assert_array_equal(trainer.predict(loader), trainer.predict(X, batch_size=7))
    assert capsys.readouterr().out == ""
    trainer.evaluate(X, Y, verbose=2)
    trainer.predict(X, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Evaluation  ")
    assert lines[0].endswith(f"loss {loss:.4f}  accuracy {(trainer.predict(X).argmax(1) == Y).mean():.4f}")
    assert lines[1].startswith("Prediction  ")


def test_hooks_under_their_other_names() -> None:
    seen: list[Any] = []

    class Mine(C.Callback):
        def on_batch_begin(self, batch: int, logs: Any = None) -> None:
            seen.append(("begin", batch))

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(("end", batch, "loss" in logs))

        def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
            seen.append(("predict", batch))

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(logs["outputs"].shape)

    made().fit(X, Y, batch_size=12, callbacks=Mine(), verbose=0)
    assert seen == [("begin", 0), ("end", 0, True), ("begin", 1), ("end", 1, True)]
    seen.clear()
    made().predict(X, batch_size=12, callbacks=[Mine()])
    assert seen == [("predict", 0), (12, 3), ("predict", 1), (11, 3)]


def test_the_csv_file_goes_on_where_it_was(tmp_path: Path) -> None:
    """append=True writes no second header; without it the file is replaced."""
    path = tmp_path / "log.csv"
    for epochs, append in ((2, True), (3, True)):
        made().fit(X, Y, epochs=epochs, callbacks=[C.CSVLogger(path, append=append)], verbose=0)
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "0", "1", "2"]
    made().fit(X, Y, epochs=1, callbacks=[C.CSVLogger(path)], verbose=0)
    assert len(path.read_text().splitlines()) == 2
