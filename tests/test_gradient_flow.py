"""Gradients by their distance in time, against products of Jacobians and one backward pass; and the example of them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn
from pydl.examples import gradient_flow as example
from pydl.models import gradient_flow


def test_elman_against_the_product_of_jacobians(rng: np.random.Generator) -> None:
    pydl.manual_seed(0)
    layer: Any = nn.RNN(3, 6)
    x = rng.normal(size=(8, 2, 3))
    w_ih, w_hh, b = (
        p.detach().numpy().astype(np.float64) for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
    )
    b = b + layer.bias_hh_l0.detach().numpy()
    h, states = np.zeros((2, 6)), []
    for step in x:
        h = np.tanh(step @ w_ih.T + h @ w_hh.T + b)
        states.append(h)
    g, expected, clipped, c = h, [], [], h
    for state in states[::-1]:
        expected.append(np.linalg.norm(g))
        g = (g * (1 - state**2)) @ w_hh
        c = c.clip(-0.05, 0.05)
        clipped.append(np.linalg.norm(c))
        c = (c * (1 - state**2)) @ w_hh
    given = pydl.asarray(x.astype(np.float32))
    np.testing.assert_allclose(gradient_flow(layer, given), expected, rtol=1e-4)
    np.testing.assert_allclose(gradient_flow(layer, given, clip_value=0.05), clipped, rtol=1e-4)
    cut = gradient_flow(layer, given, window=3)
    np.testing.assert_allclose(cut[:3], expected[:3], rtol=1e-4)
    assert not cut[3:].any()
    np.testing.assert_allclose(gradient_flow(layer, given, window=99), expected, rtol=1e-4)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_against_one_backward_through_all_steps(cell: str) -> None:
    pydl.manual_seed(1)
    layer = getattr(nn, cell)(3, 5, 2, batch_first=True)
    x = pydl.randn(2, 7, 3)
    kept: list[tuple[Any, ...]] = []
    state: Any = None
    for t in range(7):
        _, state = layer(x[:, t : t + 1], state)
        kept.append(state if isinstance(state, tuple) else (state,))
        for part in kept[-1]:
            part.retain_grad()
    kept[-1][0][-1].sum().backward()

    def norm(parts: tuple[Any, ...]) -> float:
        return float(np.sqrt(sum((part.grad.numpy() ** 2).sum() for part in parts if part.grad is not None)))

    found = gradient_flow(layer, x, loss=lambda last: last.sum())
    np.testing.assert_allclose(found, [norm(parts) for parts in kept[::-1]], rtol=1e-4)


def test_mistakes() -> None:
    x = pydl.randn(4, 2, 3)
    for layer, given, options, message, kind in (
        (nn.Linear(3, 3), x, {}, "got a Linear", TypeError),
        (nn.LSTM(3, 4, bidirectional=True), x, {}, "one way", ValueError),
        (nn.LSTM(3, 4, 2, dropout=0.5), x, {}, "without dropout", ValueError),
        (nn.LSTM(3, 4), x[0], {}, "three axes", ValueError),
        (nn.LSTM(3, 4), x[:0], {}, "one step or more", ValueError),
        (nn.LSTM(3, 4), x, {"window": 0}, "window 0", ValueError),
        (nn.LSTM(3, 4), x, {"clip_value": -1.0}, "clip_value -1", ValueError),
    ):
        with pytest.raises(kind, match=message):
            gradient_flow(layer, given, **options)  # type: ignore[arg-type]


def test_the_example_shows_what_vanishes_and_explodes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = example.main(["--epochs", "1", "--steps", "4", "--out", str(tmp_path)])
    for row in results.values():
        norms = row["norms"]
        assert norms["start"][99] < 1e-15 * norms["start"][0]
        assert not norms["window"][example.WINDOW :].any()
        assert norms["clipped"][50] < 2.3  # 0.1 times the root of 512
    assert results["Elman"]["norms"]["large"][99] > 1e6
    assert results["LSTM"]["norms"]["large"][99] < 10
    (picture,) = tmp_path.glob("gradient_flow.*")
    assert picture.read_bytes()[:5] in (b"\x89PNG\r", b"<svg ", b"<?xml")
    assert "windows of 2" in capsys.readouterr().out


@pytest.mark.slow
def test_what_does_not_arrive_is_not_learned() -> None:
    results = example.main([])
    assert results["GRU"]["all steps"] > 0.95
    assert results["LSTM"]["all steps"] > 0.9
    for row in results.values():
        assert row["windows of 10"] < 0.3
