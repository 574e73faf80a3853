"""Trainer: what it computes, against loops written by hand and closed forms; every way into it and out of it."""

from __future__ import annotations

import copy
import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import Trainer, nn, optim
from pydl.callbacks import Callback, EarlyStopping, LambdaCallback, TerminateOnNaN
from pydl.data import ArrayDataset, DataLoader
from pydl.nn import functional as F
from pydl.regularizers import L1, L2, regularize
from pydl.train import NotFinite


def mlp(inputs: int = 3, outputs: int = 2, seed: int = 0, dropout: float = 0.0) -> nn.Sequential:
    pydl.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, outputs))


def classes(n: int = 50, seed: int = 1, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return x, (np.abs(x).argmax(axis=1) % count).astype(np.int64)


def values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: t.numpy().copy() for name, t in model.state_dict().items()}


def assert_same(a: nn.Module, b: nn.Module, rtol: float = 0.0) -> None:
    ours, theirs = values(a), values(b)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=rtol, atol=rtol, err_msg=name)


# ---- the loop, against one by hand


def test_fit_is_the_loop_that_one_would_write() -> None:
    x, y = classes()
    model, twin = mlp(dropout=0.3), mlp(dropout=0.3)
    pydl.manual_seed(9)
    trainer = Trainer(model, "cross_entropy", optim.AdamW(model.parameters(), lr=0.01), ["accuracy"], clip_norm=0.5)
    history = trainer.fit(x, y, batch_size=16, epochs=3, shuffle=False, validation_data=(x[:7], y[:7]), verbose=0)
    pydl.manual_seed(9)
    optimizer = optim.AdamW(twin.parameters(), lr=0.01)
    losses, accuracies, val_losses = [], [], []
    for _ in range(3):
        twin.train()
        total = right = 0.0
        for i in range(0, 50, 16):
            xb, yb = pydl.asarray(x[i : i + 16]), pydl.asarray(y[i : i + 16])
            optimizer.zero_grad()
            logits = twin(xb)
            loss = F.cross_entropy(logits, yb)
            loss.backward()
            nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            optimizer.step()
            total += loss.item() * len(yb)
            right += (logits.argmax(axis=1) == yb).sum().item()
        losses.append(total / 50)
        accuracies.append(right / 50)
        twin.eval()
        with pydl.no_grad():
            val_losses.append(F.cross_entropy(twin(pydl.asarray(x[:7])), pydl.asarray(y[:7])).item())
    assert_same(model, twin)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)
    np.testing.assert_allclose(history["accuracy"], accuracies, rtol=1e-12)
    np.testing.assert_allclose(history["val_loss"], val_losses, rtol=1e-6)
    assert history.epoch == [0, 1, 2]
    assert trainer.step == 12
    assert trainer.stop_reason == "completed"
    assert history["lr"] == [0.01] * 3


def test_the_same_training_in_torch() -> None:
    torch = pytest.importorskip("torch")
    x, y = classes(40)
    model = mlp()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), model.parameters()):
            parameter.copy_(torch.from_numpy(value.detach().numpy()))
    Trainer(model, "cross_entropy", "sgd", lr=0.5).fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y)), batch_size=8
    )
    for _ in range(4):
        for xb, yb in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(theirs(xb), yb).backward()
            optimizer.step()
    for parameter, value in zip(theirs.parameters(), model.parameters()):
        np.testing.assert_allclose(value.detach().numpy(), parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_arrays_datasets_loaders_and_iterables_are_the_same_data() -> None:
    x, y = classes()
    results = []
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 50, 16)]
    loader = DataLoader(ArrayDataset(x, y), batch_size=16)
    for data in (
        (x, y), (pydl.asarray(x), pydl.asarray(y)),
        (x.astype(np.float64), y.astype(np.int32)), (x.tolist(), y.tolist()),
        (x, y.astype(float)), (x, y[:, None]), (ArrayDataset(x, y),), (loader,), (batches,),
    ):  # fmt: skip
        model = mlp()
        Trainer(model, "cross_entropy", lr=0.01).fit(*data, batch_size=16, epochs=2, shuffle=False, verbose=0)
        results.append(model)
    for other in results[1:]:
        assert_same(results[0], other)


def test_shuffling_depends_on_the_seed_and_goes_on_in_the_next_fit() -> None:
    x, y = classes()

    def fit(seed: int, *epochs: int) -> nn.Module:
        model = mlp()
        trainer = Trainer(model, "cross_entropy", lr=0.01, seed=seed)
        for count in epochs:
            pydl.rand(3)  # the order hangs on no generator
            trainer.fit(x, y, batch_size=16, epochs=count, verbose=0)
        return model

    assert_same(fit(3, 4), fit(3, 4))
    assert_same(fit(3, 4), fit(3, 2, 2))
    with pytest.raises(AssertionError):
        assert_same(fit(3, 2), fit(4, 2))
    with pytest.raises(AssertionError):
        assert_same(fit(3, 1, 1), fit(3, 1))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_accumulation_is_the_joined_batch_even_where_sizes_differ(loss: str) -> None:
    x, y = classes(50)
    target: Any = y if loss == "cross_entropy" else x[:, :2] * 2
    if loss == "cross_entropy":
        target = y.copy()
        target[[3, 17, 18, 19, 44]] = -100  # some count for nothing
    small = [(x[i:j], target[i:j]) for i, j in ((0, 9), (9, 20), (20, 21), (21, 30), (30, 43), (43, 50))]
    large = [(x[i:j], target[i:j]) for i, j in ((0, 21), (21, 50))]
    one, other = mlp(), mlp()
    trainer = Trainer(one, loss, "sgd", lr=0.3, accumulate=3, clip_norm=0.7)
    ours = trainer.fit(small, epochs=3, verbose=0)
    theirs = Trainer(other, loss, "sgd", lr=0.3, clip_norm=0.7).fit(large, epochs=3, verbose=0)
    assert trainer.step == 6
    assert_same(one, other, rtol=2e-6)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)


def test_the_rest_of_an_epoch_makes_a_step_of_its_own() -> None:
    x, y = classes(50)
    one, other = mlp(), mlp()
    trainer = Trainer(one, "cross_entropy", "sgd", lr=0.3, accumulate=2)
    trainer.fit([(x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:])], verbose=0)
    assert trainer.step == 2
    Trainer(other, "cross_entropy", "sgd", lr=0.3).fit([(x[:40], y[:40]), (x[40:], y[40:])], verbose=0)
    assert_same(one, other, rtol=2e-6)


def test_penalties_are_in_the_loss_and_in_the_gradient() -> None:
    x, y = classes()
    model = mlp()
    weights = [p for p in model.parameters() if p.ndim > 1]
    expected = sum(0.01 * (w.detach().numpy().astype(float) ** 2).sum() for w in weights)
    trainer = Trainer(model, "cross_entropy", "sgd", lr=0.1, regularizers=L2(0.01))
    plain = Trainer(model, "cross_entropy").evaluate(x, y)["loss"]
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(plain + expected, rel=1e-6)
    named = Trainer(model, "cross_entropy", regularizers={"0": L1(0.5)})
    magnitudes = sum(np.abs(p.detach().numpy()).sum() for p in model[0].parameters())
    assert named.evaluate(x, y)["loss"] == pytest.approx(plain + 0.5 * magnitudes, rel=1e-5)
    twin = copy.deepcopy(model)
    trainer.fit(x, y, batch_size=50, verbose=0)
    regularize(twin, "*.weight", L2(0.01))
    Trainer(twin, "cross_entropy", "sgd", lr=0.1).fit(x, y, batch_size=50, verbose=0)
    assert_same(model, twin, rtol=1e-6)
    before = copy.deepcopy(model)
    Trainer(model, lambda p, t: p.sum() * 0.0, "sgd", lr=0.1, regularizers=L2(0.5)).fit(x, y, verbose=0, batch_size=50)
    np.testing.assert_allclose(model[0].weight.detach().numpy(), before[0].weight.detach().numpy() * 0.9, rtol=1e-6)
    with pytest.raises(ValueError, match=r"no parameter is called 'nothing\.\*'"):
        Trainer(model, "mse", regularizers={"nothing.*": L2(1.0)}).evaluate(x, x[:, :2])


def test_class_weight_and_sample_weight_are_those_of_keras() -> None:
    x, y = classes(40, count=3)
    model = mlp(outputs=3)
    logits = pydl.asarray(x)
    with pydl.no_grad():
        losses = F.cross_entropy(model(logits), pydl.asarray(y), reduction="none").numpy()
    rng = np.random.default_rng(0)
    weight = rng.uniform(0, 3, 40).astype(np.float32)
    trainer = Trainer(model, "cross_entropy", "sgd", ["accuracy"], lr=0.0)
    right = (trainer.predict(x).argmax(axis=1) == y).astype(float)
    found = trainer.evaluate(x, y, batch_size=7, sample_weight=weight)
    assert found["loss"] == pytest.approx((losses * weight).sum() / 40, rel=1e-5)
    assert found["accuracy"] == pytest.approx((right * weight).sum() / weight.sum(), rel=1e-6)
    mask = rng.uniform(size=40) < 0.4
    found = trainer.evaluate(x, y, batch_size=7, sample_weight=mask)
    assert found["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right[mask].mean(), rel=1e-6)
    factors = np.array([0.5, 1.0, 4.0])[y]
    history = trainer.fit(x, y, batch_size=9, class_weight={0: 0.5, 2: 4}, sample_weight=weight, verbose=0)
    assert history["loss"][0] == pytest.approx((losses * weight * factors).sum() / 40, rel=1e-5)
    history = trainer.fit(x, y, batch_size=9, class_weight={0: 0.5, 2: 4}, verbose=0)
    assert history["loss"][0] == pytest.approx((losses * factors).sum() / 40, rel=1e-5)
    assert history["accuracy"][0] == pytest.approx(right.mean())


def test_masked_steps_count_for_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((6, 5, 3)).astype(np.float32)
    y = rng.integers(0, 4, (6, 5))
    mask = np.arange(5)[None, :] < np.array([5, 1, 3, 2, 4, 5])[:, None]
    y[~mask] = 3
    model = nn.Linear(3, 4)
    trainer = Trainer(model, "cross_entropy", metrics=["accuracy"])
    logits = x @ model.weight.detach().numpy().T + model.bias.detach().numpy()
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(log_p, y[..., None], -1)[..., 0]
    found = trainer.evaluate(x, y, batch_size=4, sample_weight=mask)
    assert found["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == y)[mask].mean())
    ignored = np.where(mask, y, -100)
    assert trainer.evaluate(x, ignored, batch_size=4)["loss"] == pytest.approx(losses[mask].mean(), rel=1e-5)
    mse = Trainer(model, "mse").evaluate(x, np.where(mask[..., None], logits + 2.0, 1e30), sample_weight=mask)
    assert mse["loss"] == pytest.approx(4.0, rel=1e-5)


# ---- models and losses of other shapes


class TwoInTwoOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, 3), nn.Linear(4, 3)

    def forward(self, image: Any, text: Any) -> dict[str, Any]:
        shared = self.left(image) + self.right(text)
        return {"label": shared, "size": shared.sum(axis=1, keepdims=True)}


def test_several_inputs_and_outputs_by_name() -> None:
    rng = np.random.default_rng(0)
    inputs = {"image": rng.standard_normal((30, 2)), "text": rng.standard_normal((30, 4))}
    targets = {"label": rng.integers(0, 3, 30), "size": rng.standard_normal((30, 1))}
    model = TwoInTwoOut()
    trainer = Trainer(
        model, {"label": "cross_entropy", "size": "mse"}, "sgd", {"label": ["accuracy"], "size": "mae"}, lr=0.0,
        loss_weights={"label": 1.0, "size": 0.25},
    )  # fmt: skip
    history = trainer.fit(inputs, targets, batch_size=8, verbose=0, validation_data=(inputs, targets))
    out = trainer.predict(inputs)
    assert {name: array.shape for name, array in out.items()} == {"label": (30, 3), "size": (30, 1)}
    assert history["label_accuracy"][0] == pytest.approx((out["label"].argmax(1) == targets["label"]).mean())
    assert history["size_mae"][0] == pytest.approx(np.abs(out["size"] - targets["size"]).mean(), rel=1e-5)
    assert history["size_loss"][0] == pytest.approx(((out["size"] - targets["size"]) ** 2).mean(), rel=1e-5)
    assert history["loss"][0] == pytest.approx(history["label_loss"][0] + 0.25 * history["size_loss"][0], rel=1e-6)
    assert history["val_loss"][0] == pytest.approx(history["loss"][0], rel=1e-6)


def test_several_inputs_and_outputs_by_place() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, a: Any, b: Any) -> tuple[Any, Any]:
            return self.layer(a), self.layer(b)

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 2)), rng.standard_normal((20, 2))
    trainer = Trainer(Pair(), ["mse", "mae"], "sgd", lr=0.05)
    first, *_, last = trainer.fit((a, b), (a[:, :1], b[:, 1:]), epochs=10, verbose=0)["output_0_loss"]
    assert last < first
    one, two = trainer.predict((a, b))
    np.testing.assert_allclose(one, trainer.predict((b, a))[1], rtol=1e-6)
    assert two.shape == (20, 1)


def test_losses_of_single_column_outputs() -> None:
    x, y = classes()
    for loss, model in (("bce_with_logits", nn.Linear(3, 1)), ("bce", nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()))):
        history = Trainer(model, loss, lr=0.05).fit(x, y, epochs=15, verbose=0)
        assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(ValueError, match=r"label 2 in row 3, expected 0 to 1"):
        Trainer(nn.Linear(3, 1), "bce_with_logits").fit(x, np.where(np.arange(50) == 3, 2, y))


def test_a_function_as_loss() -> None:
    x, y = classes()
    model = mlp()
    whole = Trainer(model, lambda p, t: F.cross_entropy(p, t)).evaluate(x, y, batch_size=7)["loss"]
    each = Trainer(model, lambda p, t: F.cross_entropy(p, t, reduction="none")).evaluate(x, y, batch_size=7)["loss"]
    named = Trainer(model, nn.CrossEntropyLoss()).evaluate(x, y, batch_size=7)["loss"]
    assert whole == pytest.approx(named, rel=1e-6)
    assert each == pytest.approx(named, rel=1e-6)
    with pytest.raises(ValueError, match="one number for the whole batch"):
        Trainer(model, lambda p, t: F.cross_entropy(p, t)).fit(x, y, sample_weight=np.ones(50))


def test_lazy_layers_are_made_at_the_first_fit() -> None:
    x, y = classes()
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    trainer = Trainer(model, "cross_entropy", "adam", lr=0.1)
    assert trainer.optimizer is None
    history = trainer.fit(x, y, epochs=20, verbose=0)
    assert history["loss"][-1] < history["loss"][0]
    lazy = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    Trainer(lazy, "cross_entropy").fit([(x, y)], verbose=0)
    assert lazy[0].weight.shape == (4, 3)


# ---- sequences


class Carried(nn.Module):
    """y_t = w·(x_t + c·s_{t-1}); s is the sum of what came in, carried along."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(1, 3, batch_first=True)
        self.head = nn.Linear(3, 1)
        self.seen: list[bool] = []

    def forward(self, x: Any, state: Any) -> tuple[Any, Any]:
        self.seen.append(state is None)
        y, state = self.cell(x, state)
        return self.head(y), state


def test_windows_are_steps_with_a_carried_and_detached_state() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 10, 1)).astype(np.float32), rng.standard_normal((4, 10, 1)).astype(np.float32)
    pydl.manual_seed(0)
    model = Carried()
    twin = copy.deepcopy(model)
    trainer = Trainer(model, "mse", "sgd", lr=0.1, tbptt=4)
    history = trainer.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    optimizer, state, losses = optim.SGD(twin.parameters(), lr=0.1), None, []
    for i in (0, 4, 8):
        part, target = pydl.asarray(x[:, i : i + 4].copy()), pydl.asarray(y[:, i : i + 4].copy())
        optimizer.zero_grad()
        prediction, state = twin(part, state)
        loss = F.mse_loss(prediction, target)
        loss.backward()
        optimizer.step()
        state = state.detach()
        losses.append(loss.item() * target.size)
    assert trainer.step == 3
    assert_same(model, twin)
    assert history["loss"][0] == pytest.approx(sum(losses) / 40, rel=1e-6)
    model.seen.clear()
    trainer.fit(x, y, batch_size=2, verbose=0)
    assert model.seen[-6:] == [True, False, False] * 2
    stateful = Trainer(model, "mse", "sgd", lr=0.1, tbptt=5, stateful=True)
    model.seen.clear()
    stateful.fit(x, y, batch_size=2, epochs=2, verbose=0)
    assert model.seen[-8:] == [True, False, False, False] * 2
    assert trainer.predict(x).shape == (4, 10, 1)
    with pytest.raises(ValueError, match="as many steps everywhere"):
        trainer.fit(x, y[:, :9], verbose=0)


# ---- schedules and averages


def test_schedules_are_stepped_in_their_unit() -> None:
    x, y = classes(40)
    trainer = Trainer(
        mlp(), "cross_entropy", "sgd", lr=1.0,
        scheduler=[
            lambda o: optim.lr_scheduler.StepLR(o, 1, gamma=0.5),
            lambda o: optim.lr_scheduler.ExponentialLR(o, 0.9, unit="step"),
        ],
    )  # fmt: skip
    rates = []
    note = LambdaCallback(on_train_batch_end=lambda b, logs: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.fit(x, y, batch_size=10, epochs=2, verbose=0, callbacks=[note])
    expected = [0.9, 0.81, 0.729, 0.6561, 0.5 * 0.9**5, 0.5 * 0.9**6, 0.5 * 0.9**7, 0.5 * 0.9**8]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    plateau = Trainer(
        mlp(), "cross_entropy", "sgd", lr=0.0, scheduler=lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0)
    )
    plateau.optimizer.param_groups[0]["lr"] = 1e-30
    plateau.scheduler.eps = 0.0
    plateau.fit(x, y, epochs=3, validation_data=(x, y), verbose=0)
    assert plateau.optimizer.param_groups[0]["lr"] == pytest.approx(1e-32)


def test_the_average_is_validated_and_left_in_the_model() -> None:
    x, y = classes(40)
    model, twin = mlp(), mlp()
    trainer = Trainer(model, "cross_entropy", "sgd", lr=0.5, ema=0.75)
    history = trainer.fit(x, y, batch_size=10, epochs=2, shuffle=False, validation_data=(x, y), verbose=0)
    average = None
    optimizer = optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(2):
        for i in range(0, 40, 10):
            optimizer.zero_grad()
            F.cross_entropy(twin(pydl.asarray(x[i : i + 10])), pydl.asarray(y[i : i + 10])).backward()
            optimizer.step()
            now = values(twin)
            average = now if average is None else {k: 0.75 * average[k] + 0.25 * now[k] for k in now}
    assert average is not None
    for name, value in values(model).items():
        np.testing.assert_allclose(value, average[name], rtol=1e-5, atol=1e-6)
    assert history["val_loss"][-1] == pytest.approx(trainer.evaluate(x, y)["loss"])
    trainer.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)  # goes on from its own weights
    for i in range(0, 40, 10):
        optimizer.zero_grad()
        F.cross_entropy(twin(pydl.asarray(x[i : i + 10])), pydl.asarray(y[i : i + 10])).backward()
        optimizer.step()
    own = trainer.average.own_state()
    for name, value in values(twin).items():
        np.testing.assert_allclose(own[name].numpy(), value, rtol=1e-5, atol=1e-6)


# ---- custom steps


def test_a_step_of_ones_own() -> None:
    x, y = classes()
    model, twin = mlp(), mlp()

    def step(trainer: Trainer, batch: Any) -> dict[str, float]:
        xb, yb = batch
        trainer.optimizer.zero_grad()
        loss = F.cross_entropy(trainer.model(xb), yb)
        loss.backward()
        trainer.optimizer.step()
        return {"loss": loss.item(), "twice": 2 * loss.item()}

    trainer = Trainer(model, optimizer=lambda p: optim.SGD(p, lr=0.1), train_step=step)
    history = trainer.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    expected = Trainer(twin, "cross_entropy", "sgd", lr=0.1).fit(
        x, y, batch_size=16, epochs=2, shuffle=False, verbose=0
    )
    assert_same(model, twin)
    np.testing.assert_allclose(history["loss"], expected["loss"])
    np.testing.assert_allclose(history["twice"], 2 * np.array(expected["loss"]))
    assert trainer.step == 8


def test_a_subclass_replaces_the_step() -> None:
    class Noisy(Trainer):
        def train_step(self, batch: Any) -> Any:
            logs = super().train_step((batch[0] * 1.0, batch[1]))
            logs["norm"] = float(sum(p.grad.norm().item() for p in self.model.parameters()))
            return logs

    x, y = classes()
    history = Noisy(mlp(), "cross_entropy", lr=0.01).fit(x, y, epochs=2, verbose=0)
    assert len(history["norm"]) == 2
    assert min(history["norm"]) > 0


# ---- ways out


class Press(Callback):
    """Ctrl-C, some times, at one batch."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.at, self.times, self.ends = at, times, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.trainer.step == self.at:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def on_train_end(self, logs: Any = None) -> None:
        self.ends += 1


def test_the_first_interrupt_returns_the_history_and_saves(tmp_path: Any) -> None:
    x, y = classes()
    whole = mlp()
    Trainer(whole, "cross_entropy").fit(x, y, batch_size=10, epochs=3, verbose=0)
    model, press = mlp(), Press(8)
    trainer = Trainer(model, "cross_entropy")
    handler = signal.getsignal(signal.SIGINT)
    history = trainer.fit(x, y, batch_size=10, epochs=3, verbose=0, callbacks=[press], checkpoint=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert trainer.stop_reason == "interrupted"
    assert history.epoch == [0]
    assert trainer.step == 8
    assert press.ends == 1
    again = mlp(seed=5)
    Trainer(again, "cross_entropy").fit(
        x, y, batch_size=10, epochs=3, verbose=0, checkpoint=tmp_path, resume="last", callbacks=[Press(-1)]
    )
    assert_same(whole, again)


def test_the_second_interrupt_ends_at_once() -> None:
    x, y = classes()
    press = Press(3, times=2)
    trainer = Trainer(mlp(), "cross_entropy")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, batch_size=10, epochs=3, verbose=0, callbacks=[press])
    assert trainer.stop_reason == "interrupted"
    assert press.ends == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_no_handler_of_ours_where_it_is_not_wanted() -> None:
    x, y = classes()
    found = []
    callback = LambdaCallback(on_epoch_begin=lambda epoch, logs: found.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=lambda: Trainer(mlp(), "cross_entropy").fit(x, y, verbose=0, callbacks=[callback]))
    before = signal.getsignal(signal.SIGINT)
    thread.start()
    thread.join()
    assert found == [before]
    pressed = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        Trainer(mlp(), "cross_entropy").fit(x, y, verbose=0, callbacks=[Press(1)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]


@pytest.mark.parametrize("way", ["patience", "last epoch", "interrupt", "nan"])
def test_early_stopping_gives_the_best_weights_on_every_way_out(way: str) -> None:
    x, y = classes(40)
    best: dict[str, np.ndarray] = {}

    class Script(Callback):
        """The validation loss as it is wanted, and what goes wrong in epoch 3."""

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_loss"] = [3.0, 1.0, 2.0, 2.5, 2.6, 2.7][epoch]
            if epoch == 1:
                best.update(values(self.model))

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.trainer.epoch == 3 and batch == 1:
                if way == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                elif way == "nan":
                    with pydl.no_grad():
                        self.model[3].bias.copy_(pydl.full((2,), pydl.nan))

    stop = EarlyStopping("val_loss", patience=2 if way == "patience" else 9)
    model = mlp()
    trainer = Trainer(model, "cross_entropy", lr=0.1)
    callbacks = [Script(), stop]

    def fit() -> None:
        trainer.fit(x, y, batch_size=10, epochs=6, verbose=0, validation_data=(x, y), callbacks=callbacks)

    if way == "nan":
        with pytest.raises(NotFinite):
            fit()
    else:
        fit()
    reasons = {"patience": "stopped", "last epoch": "completed", "interrupt": "interrupted", "nan": "not finite"}
    assert trainer.stop_reason == reasons[way]
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, best[name])


def test_terminate_on_nan_makes_it_a_stop() -> None:
    x, y = classes(40)
    trainer = Trainer(mlp(), lambda p, t: F.cross_entropy(p, t) * (pydl.nan if bool((t < 0).any()) else 1.0))
    batches = [(x[:20], y[:20]), (x[20:], np.full(20, -100))]
    history = trainer.fit(batches, epochs=3, verbose=0, callbacks=[TerminateOnNaN()])
    assert trainer.stop_reason == "not finite"
    assert history.epoch == []
    assert trainer.step == 1


def test_on_train_end_is_called_once_on_errors_too() -> None:
    x, y = classes()
    press = Press(-1)

    def fail(batch: int, logs: Any) -> None:
        raise ZeroDivisionError

    trainer = Trainer(mlp(), "cross_entropy")
    with pytest.raises(ZeroDivisionError):
        trainer.fit(x, y, verbose=0, callbacks=[press, LambdaCallback(on_train_batch_end=fail)])
    assert press.ends == 1
    assert trainer.stop_reason == "error"
    trainer.fit(x, y, verbose=0)
    assert trainer.stop_reason == "completed"


def test_stop_training_ends_after_the_batch() -> None:
    x, y = classes()

    def stop(batch: int, logs: Any) -> None:
        trainer.stop_training = batch == 1

    trainer = Trainer(mlp(), "cross_entropy")
    history = trainer.fit(x, y, batch_size=10, epochs=5, verbose=0, callbacks=[LambdaCallback(on_train_batch_end=stop)])
    assert trainer.step == 2
    assert history.epoch == [0]
    assert trainer.stop_reason == "stopped"


def test_steps_per_epoch_goes_on_where_it_was() -> None:
    seen: list[list[float]] = []
    batches = [(np.full((2, 3), float(i)), np.zeros(2, np.int64)) for i in range(3)]

    def look(trainer: Trainer, batch: Any) -> dict[str, float]:
        seen[-1].append(batch[0][0, 0].item())
        return {"loss": 0.0}

    trainer = Trainer(mlp(), train_step=look)
    trainer.fit(
        batches, epochs=3, steps_per_epoch=2, verbose=0,
        callbacks=[LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append([]))],
    )  # fmt: skip
    assert seen == [[0.0, 1.0], [2.0, 0.0], [1.0, 2.0]]


# ---- evaluate, predict


def test_predict() -> None:
    x, _ = classes()
    model = mlp(dropout=0.5)
    trainer = Trainer(model, "cross_entropy")
    with pydl.no_grad():
        expected = model.eval()(pydl.asarray(x)).numpy()
    model.train()
    found = trainer.predict(x, batch_size=7)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for other in (x.astype(np.float64), pydl.asarray(x), x.tolist(), ArrayDataset(x), DataLoader(ArrayDataset(x), 9)):
        np.testing.assert_allclose(trainer.predict(other), expected, rtol=1e-6)
    np.testing.assert_allclose(trainer.predict(x[:1]), expected[:1], rtol=1e-6)
    kept = trainer.predict(x[:1])
    trainer.predict(x[1:2])
    np.testing.assert_allclose(kept, expected[:1], rtol=1e-6)
    assert pydl.is_grad_enabled()
    with pytest.raises(ValueError, match=r"empty|no rows|at least"):
        trainer.predict(x[:0])


def test_evaluate_returns_lists_too() -> None:
    x, y = classes()
    trainer = Trainer(mlp(), "cross_entropy", metrics=["accuracy"])
    found = trainer.evaluate(x, y)
    assert list(found) == ["loss", "accuracy"]
    assert trainer.evaluate(x, y, return_dict=False) == list(found.values())


def test_metrics_of_training_survive_the_validation() -> None:
    x, y = classes()
    seen = []
    trainer = Trainer(mlp(), "cross_entropy", "sgd", ["accuracy"], lr=0.0)
    right = (trainer.predict(x).argmax(1) == y).mean()
    history = trainer.fit(
        x, y, batch_size=8, epochs=2, verbose=0, validation_data=(x[:5], y[:5]),
        callbacks=[LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(dict(logs)))],
    )  # fmt: skip
    assert history["accuracy"] == pytest.approx([right, right])
    assert seen[-1]["accuracy"] == pytest.approx(right)


def test_constraints_hold_after_every_step() -> None:
    layer = nn.Linear(4, 3, kernel_constraint=pydl.constraints.MaxNorm(0.1))
    trainer = Trainer(layer, "mse", "sgd", lr=1.0)
    norms: list[float] = []
    note = pydl.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: norms.append((layer.weight**2).sum(axis=1).max().item() ** 0.5)
    )
    trainer.fit(pydl.ones((32, 4)), pydl.ones((32, 3)) * 9, batch_size=8, epochs=2, callbacks=[note], verbose=0)
    assert len(norms) == 8
    assert max(norms) <= 0.1 + 1e-6
    assert layer.bias is not None
    assert layer.bias.abs().max().item() > 1


def test_a_batch_of_ignored_targets_counts_for_nothing() -> None:
    model = nn.Linear(3, 2)
    targets = pydl.asarray([-100] * 4 + [1] * 4)
    trainer = Trainer(model, nn.CrossEntropyLoss(), "sgd", lr=0.1)
    history = trainer.fit(pydl.ones((8, 3)), targets, batch_size=4, shuffle=False, verbose=0)
    assert 0 < history["loss"][0] < 10


def test_where_pytorch_has_data_loading() -> None:
    data = pydl.utils.data
    batches = list(data.DataLoader(data.TensorDataset(pydl.arange(5), pydl.arange(5) * 2), batch_size=2))
    assert [tuple(len(part) for part in batch) for batch in batches] == [(2, 2), (2, 2), (1, 1)]
