"""Numbers that are not finite: the layer, the step and the tensor are named, and the step before is what is left."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import Trainer, nn
from pydl.callbacks import Callback
from pydl.data import ArrayDataset, DataLoader
from pydl.data.sampler import permutation
from pydl.train import AnomalyError, NotFinite
from pydl.train.recorder import Recorder

AT = 9  # the batch, and so the step


class Spoiled(pydl.autograd.Function):
    """The identity, whose gradient is NaN where a huge input is seen."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * (pydl.nan if bool((x > 1e6).any()) else 1.0)


class Custom(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        if self.kind == "gradient":
            x = Spoiled.apply(x)
        y = self.inner(pydl.clip(x, -10.0, 10.0))
        if self.kind == "activation":
            y = y * pydl.where(x.max() > 1e6, pydl.nan, 1.0)
        return y


class Poke(Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.trainer.step == AT:
            with pydl.no_grad():
                self.model[4].weight[0, 3] = pydl.nan


def make_model(kind: str) -> nn.Module:
    pydl.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), Custom(kind), nn.Dropout(0.2), nn.Linear(8, 1))


def make_batches(kind: str) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((20, 32, 4)).astype(np.float32), rng.standard_normal((20, 32, 1)).astype(np.float32)
    if kind == "input":
        x[AT, 3, 2] = np.nan
    elif kind == "target":
        y[AT, 3] = np.nan
    elif kind == "loss":
        y[AT, 3] = 7777.0
    elif kind in ("activation", "gradient"):
        x[AT, 3] = 0.0
    return list(zip(x, y))


def mse(prediction: Any, target: Any) -> Any:
    return ((prediction - target) ** 2).mean() * (pydl.nan if bool((target > 7000).any()) else 1.0)


EXPECTED = {
    "input": ("", "input"),
    "target": ("", "target"),
    "weight": ("4", "parameter weight"),
    "activation": ("2", "activation"),
    "gradient": ("2", "gradient"),
    "loss": ("", "loss"),
}


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"ema": 0.9, "accumulate": 1}])
def test_where_it_began_and_what_is_left(kind: str, options: dict[str, Any]) -> None:
    batches = make_batches(kind)
    model = make_model(kind)
    if kind in ("activation", "gradient"):
        # A pre-activation that is huge in one batch alone: without batch normalization, by an input.
        model[1] = nn.Identity()
        batches[AT][0][3] = 1e9
    twin = copy.deepcopy(model)

    pydl.manual_seed(3)
    good = Trainer(twin, mse, "adam", lr=0.01, **options)
    good.fit(batches[:AT], verbose=0)
    pydl.manual_seed(3)
    trainer = Trainer(model, mse, "adam", lr=0.01, **options)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(batches, epochs=2, verbose=0, callbacks=[Poke()] if kind == "weight" else [])
    error = caught.value
    assert (error.epoch, error.step) == (0, AT)
    assert (error.layer, error.tensor) == EXPECTED[kind]
    assert trainer.stop_reason == "not finite"
    assert trainer.step == AT
    expected = good.model.state_dict()
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[name].numpy(), err_msg=name)
    ours, theirs = trainer.optimizer.state_dict()["state"], good.optimizer.state_dict()["state"]
    for i, entry in ours.items():
        assert entry["step"] == AT
        np.testing.assert_array_equal(entry["exp_avg"].numpy(), theirs[i]["exp_avg"].numpy())


@pytest.mark.parametrize("share", [0, 10, 10**9])
@pytest.mark.parametrize("epoch", [0, 2])
def test_batches_of_a_loader_are_read_again(share: int, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient spoils the weights; the next loss shows it, and the step before is found among those done again."""
    monkeypatch.setattr("pydl.train.recorder._SHARE", share)
    x = np.concatenate([batch[0] for batch in make_batches("none")])
    y = np.concatenate([batch[1] for batch in make_batches("none")])
    model = make_model("gradient")
    model[1] = nn.Identity()

    class Later:
        def apply(self, batch: Any, keys: Any) -> Any:
            return (batch[0] * 0.0 + 1e9, batch[1]) if keys.epoch == epoch and 7 in keys.indices else batch

    loader = DataLoader(ArrayDataset(x, y), 32, shuffle=True, transform=Later())
    place = next(i for i, batch in enumerate(permutation(640, 0, epoch).reshape(20, 32)) if 7 in batch)
    step = 20 * epoch + place
    trainer = Trainer(model, mse, "sgd", lr=1e-12)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(loader, epochs=4, verbose=0)
    assert (caught.value.epoch, caught.value.step) == (epoch, step)
    assert (caught.value.layer, caught.value.tensor) == ("2", "gradient")
    assert trainer.step == step


def test_it_is_found_epochs_later_and_in_the_last_step() -> None:
    """A gradient that spoils the weights in the very last step shows in no loss."""
    batches = make_batches("gradient")[: AT + 1]
    batches[AT][0][3] = 1e9
    model = make_model("gradient")
    model[1] = nn.Identity()
    trainer = Trainer(model, mse, "sgd", lr=0.001)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(batches, verbose=0)
    assert (caught.value.step, caught.value.layer, caught.value.tensor) == (AT, "2", "gradient")


class AtCall(nn.Module):
    """Not finite by the count of calls: done again, it does not come back."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.calls, self.call = 0, call

    def forward(self, x: Any) -> Any:
        self.calls += self.training
        return x * pydl.nan if self.calls == self.call else x


def test_what_does_not_come_back_is_said_to() -> None:
    batches = make_batches("none")
    model = nn.Sequential(nn.Linear(4, 1), AtCall(AT + 1))
    trainer = Trainer(model, "mse")
    with pytest.raises(NotFinite, match="did not come back") as caught:
        trainer.fit(batches, verbose=0)
    assert (caught.value.step, caught.value.layer, caught.value.tensor) == (AT, None, None)
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters())
    assert trainer.step == AT


class FromCall(AtCall):
    def forward(self, x: Any) -> Any:
        self.calls += self.training
        return x * pydl.nan if self.calls >= self.call else x


@pytest.mark.parametrize("share", [0, 3, 10**9])
def test_a_layer_that_stays_broken_is_found_at_the_right_step(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydl.train.recorder._SHARE", share)
    model = nn.Sequential(nn.Linear(4, 1), FromCall(AT + 1))
    trainer = Trainer(model, "mse")
    with pytest.raises(NotFinite) as caught:
        trainer.fit(make_batches("none"), verbose=0)
    assert (caught.value.step, caught.value.layer, caught.value.tensor) == (AT, "1", "activation")
    assert trainer.step == AT


def test_infinities_of_masks_are_not_blamed() -> None:
    class Masked(nn.Module):
        def forward(self, x: Any) -> Any:
            return pydl.where(pydl.asarray([True, True, False]), x, -pydl.inf)

    model = nn.Sequential(nn.Linear(4, 3), Masked(), nn.Softmax(dim=1), nn.Linear(3, 1), AtLarge())
    batches = make_batches("none")
    batches[AT][0][:] = 1e5
    with pytest.raises(NotFinite) as caught:
        Trainer(model, "mse", "sgd", lr=0.0).fit(batches, verbose=0)
    assert caught.value.layer == "4"


class AtLarge(nn.Module):
    count = 0

    def forward(self, x: Any) -> Any:
        return pydl.log(x * 0.0 - 1.0) if float(x.detach().numpy().std()) == 0.0 else x


def test_with_a_step_of_ones_own_and_accumulation() -> None:
    batches = make_batches("target")

    def step(trainer: Trainer, batch: Any) -> dict[str, float]:
        trainer.optimizer.zero_grad()
        loss = mse(trainer.model(batch[0]), batch[1])
        loss.backward()
        trainer.optimizer.step()
        return {"loss": loss.item()}

    trainer = Trainer(make_model(""), optimizer="adam", train_step=step)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(batches, verbose=0)
    assert (caught.value.step, caught.value.tensor) == (AT, "target")
    assert all(np.isfinite(p.detach().numpy()).all() for p in trainer.model.parameters())
    trainer = Trainer(make_model(""), "mse", accumulate=2)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(batches, verbose=0)
    assert (caught.value.step, caught.value.tensor) == (AT // 2, "target")
    assert trainer.step == AT // 2


def test_the_rest_of_an_epoch_that_makes_a_step_of_its_own() -> None:
    """Three batches by twos: the third's gradient is NaN, and its step comes after the epoch's last batch."""
    x = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
    x[8:] = 1e7
    model = nn.Sequential(nn.Linear(8, 8), Custom("gradient"))
    trainer = Trainer(model, "mse", "sgd", accumulate=2, clip_norm=1.0)
    trainer.fit(x[:8], x[:8] * 0, batch_size=4, shuffle=False, verbose=0)
    with pytest.raises(NotFinite) as caught:
        trainer.fit(x, x * 0, batch_size=4, shuffle=False, verbose=0)
    assert (caught.value.epoch, caught.value.step, caught.value.layer) == (0, 2, "1")
    assert trainer.stop_reason == "not finite"
    assert np.isfinite(model.state_dict()["1.inner.weight"].numpy()).all()


def test_not_looking_goes_on() -> None:
    trainer = Trainer(make_model(""), "mse", check_finite=False)
    history = trainer.fit(make_batches("target"), verbose=0)
    assert np.isnan(history["loss"][0])
    assert trainer.stop_reason == "completed"


def test_the_state_of_some_steps_ago_comes_back_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom it is copied, the repetition ends where the training stood."""
    for share in (0, 10**9):
        monkeypatch.setattr("pydl.train.recorder._SHARE", share)
        trainer = Trainer(make_model(""), "mse", "adam", lr=0.01, ema=0.9)
        with pytest.raises(NotFinite) as caught:
            trainer.fit(make_batches("target"), verbose=0)
        assert (caught.value.step, caught.value.tensor) == (AT, "target")
        assert trainer.step == AT


def test_memory_of_batches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydl.train.recorder._SHARE", 10**9)
    monkeypatch.setattr("pydl.train.recorder._MOST_BYTES", 3000)
    trainer = Trainer(make_model(""), "mse")
    recorder = Recorder(trainer)
    batch = (pydl.zeros((50, 4)), pydl.zeros((50, 1)))  # 1000 bytes
    for _ in range(3):
        recorder.note(batch)
    assert recorder.log is not None
    assert len(recorder.log) == 3
    recorder.note(batch)
    assert recorder.log is None
    with pytest.raises(NotFinite) as caught:
        trainer.fit(make_batches("target"), verbose=0)
    assert (caught.value.step, caught.value.tensor) == (AT, "target")


# ---- detect_anomaly


def test_the_op_and_the_layer_are_named() -> None:
    class Root(nn.Module):
        def forward(self, x: Any) -> Any:
            return pydl.sqrt(x * 0.0)

    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(Root(), nn.Tanh()), nn.Linear(4, 1))
    x = pydl.ones((5, 3))
    with pytest.raises(AnomalyError, match=r"'sqrt' made a gradient with NaN") as caught, pydl.detect_anomaly():
        (model(x) * 0.0).sum().backward()
    assert caught.value.layer == "1.0"
    (model(x) * 0.0).sum().backward()  # not watched any more
    assert np.isnan(model[0].weight.grad.numpy()).all()


def test_a_custom_function_is_named() -> None:
    x = pydl.asarray([1e9], requires_grad=True)
    with pytest.raises(RuntimeError, match="op 'Spoiled' made a gradient with NaN"), pydl.detect_anomaly():
        (Spoiled.apply(x * 2.0) * 3.0).sum().backward()


def test_infinities_only_on_request() -> None:
    x = pydl.asarray([0.0], requires_grad=True)
    with pydl.detect_anomaly():
        pydl.sqrt(x).sum().backward()
    with pytest.raises(AnomalyError, match="infinity"), pydl.detect_anomaly(check_inf=True):
        pydl.sqrt(x).sum().backward()
    with pydl.detect_anomaly(check_nan=False):
        (pydl.sqrt(x) * 0.0).sum().backward()


def test_finite_gradients_are_left_alone() -> None:
    model = make_model("").eval()
    x = pydl.ones((3, 4))
    model(x).sum().backward()
    expected = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    with pydl.detect_anomaly():
        model(x).sum().backward()
    for p, grad in zip(model.parameters(), expected):
        np.testing.assert_array_equal(p.grad.numpy(), grad)
