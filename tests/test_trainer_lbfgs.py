"""LBFGS under Trainer: the same steps as by hand, resumed to the same bytes, and what does not go with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import Trainer, nn, optim

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.3).astype(np.float32)


def make() -> Any:
    pydl.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def lbfgs(parameters: Any) -> optim.LBFGS:
    return optim.LBFGS(parameters, lr=1.0, max_iter=4, history_size=5, line_search_fn="strong_wolfe")


def weights(model: Any) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def test_steps_and_logged_losses_are_those_by_hand() -> None:
    model, other = make(), make()
    trainer = Trainer(model, "mse", lbfgs, ["mae"])
    history = trainer.fit(X, Y, batch_size=40, epochs=6, shuffle=False, verbose=0)
    optimizer, losses = lbfgs(other.parameters()), []
    x, y = pydl.asarray(X), pydl.asarray(Y)

    def closure() -> pydl.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(other(x), y)
        loss.backward()
        return loss

    for _ in range(6):
        losses.append(optimizer.step(closure).item())
    assert history["loss"] == losses
    assert weights(model) == weights(other)
    assert trainer.step == 6
    assert len(history["mae"]) == 6
    assert losses[-1] < losses[0] / 50


def test_a_resumed_fit_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = make(), make()
    options: dict[str, Any] = {"batch_size": 20, "verbose": 0}
    Trainer(whole, "mse", lbfgs).fit(X, Y, epochs=4, **options)
    Trainer(cut, "mse", lbfgs).fit(X, Y, epochs=2, checkpoint=tmp_path, **options)
    again = make()
    Trainer(again, "mse", lbfgs).fit(X, Y, epochs=4, checkpoint=tmp_path, resume="last", **options)
    assert weights(again) == weights(whole)


def test_a_loss_that_is_not_finite_goes_back_to_the_state_before() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.bad = make(), False

        def forward(self, x: Any) -> Any:
            return self.inner(x) * (math.nan if self.bad else 1.0)

    model = Sometimes()
    trainer = Trainer(model, "mse", lbfgs)
    trainer.fit(X, Y, batch_size=40, epochs=3, verbose=0)
    before = weights(model)
    model.bad = True
    with pytest.raises(pydl.train.NotFinite):
        trainer.fit(X, Y, batch_size=40, epochs=1, verbose=0)
    assert weights(model) == before
    model.bad = False
    assert trainer.fit(X, Y, batch_size=40, epochs=2, verbose=0)["loss"][-1] < 1.0


@pytest.mark.parametrize(("name", "value"), [("accumulate", 2), ("clip_norm", 1.0), ("clip_value", 1.0), ("tbptt", 3)])
def test_what_does_not_go_with_it(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\[Trainer\] got {name} with LBFGS.*another optimizer"):
        Trainer(make(), "mse", lbfgs, **{name: value})
