"""The figures hold what they say. What they look like was checked by eye."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn

pytest.importorskip("matplotlib")
plots = pydl.plots


def curves(axes: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {str(line.get_label()): line.get_data() for line in axes.lines}


def test_activations_show_function_and_derivative(tmp_path: Path) -> None:
    figure = plots.activations(["Tanh", "ReLU"], low=-2, high=2, path=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    x, y = curves(figure.axes[0])["f(x)"]
    np.testing.assert_allclose(y, np.tanh(x), rtol=1e-5, atol=1e-7)
    x, y = curves(figure.axes[0])["f ′(x)"]
    np.testing.assert_allclose(y, 1 - np.tanh(x) ** 2, rtol=1e-4, atol=1e-6)
    x, y = curves(figure.axes[1])["f ′(x)"]
    assert np.isnan(y).sum() == 1  # the jump is not drawn
    assert len(plots.activations().axes) == len(plots.ACTIVATIONS)
    with pytest.raises(ValueError, match="got 'Swish'"):
        plots.activations(["Swish"])


def test_weights_and_their_deviation() -> None:
    figure = plots.initial_weights({"mine": lambda w, generator: nn.init.normal_(w, 0.0, 0.5, generator)})
    (axes,) = figure.axes
    assert axes.get_title().startswith("mine   σ = 0.")
    np.testing.assert_allclose(sorted(x[0] for x, _ in curves(axes).values()), [-0.5, 0.5], rtol=0.01)
    assert len(plots.initial_weights(shape=(32, 32)).axes) == len(plots.INITIALIZERS)


def test_signals_vanish_explode_and_keep() -> None:
    chosen = {
        "small": lambda w, generator: nn.init.normal_(w, 0.0, 0.01, generator),
        "large": lambda w, generator: nn.init.normal_(w, 0.0, 1.0, generator),
        "right": lambda w, generator: nn.init.kaiming_normal_(w, generator=generator),
    }
    figure = plots.signals_by_depth(chosen, activation="ReLU", depth=6, width=128, batch=64)
    lines = [curves(axes)["σ of activations"][1] for axes in figure.axes if "σ of activations" in curves(axes)]
    assert [len(line) for line in lines] == [6, 6, 6]
    assert lines[0][-1] < 1e-4 * lines[0][0]
    assert lines[1][-1] > 1e4 * lines[1][0]
    assert 0.2 < lines[2][-1] / lines[2][0] < 5


def test_a_confusion_matrix_shows_counts_and_shares(tmp_path: Path) -> None:
    counts = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 3]])
    figure = plots.confusion_matrix(counts, ["cat", "dog", "cow"], tmp_path / "c.png", title="so")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert {(t.get_position(), t.get_text()) for t in axes.texts} == {
        ((0, 0), "8"), ((1, 0), "2"), ((0, 2), "1"), ((2, 2), "3"),
    }  # fmt: skip
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0, 0, 0], [0.25, 0, 0.75]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "cow"]
    assert (axes.get_ylabel(), axes.get_xlabel(), axes.get_title()) == ("is", "found", "so")
    assert plots.confusion_matrix(pydl.asarray([[1]])).axes[0].get_xticklabels()[0].get_text() == "0"
    for wrong in (np.ones((2, 3)), -np.ones((2, 2)), np.ones(3), np.ones((0, 0)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"expected \(C, C\)"):
            plots.confusion_matrix(wrong)
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        plots.confusion_matrix(counts, ["a", "b"])


def test_images_and_their_titles(tmp_path: Path, rng: np.random.Generator) -> None:
    pictures = [rng.random((4, 5)), pydl.asarray(rng.random((4, 5, 3)))]
    long = "a small diamond above and left of a small diamond"
    figure = plots.images(pictures, ["good", f"bad\n{long}"], [1], tmp_path / "i.png", cmap="gray")
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), pictures[0])
    assert [axes.title.get_color() for axes in figure.axes] == ["black", "#b22222"]
    assert figure.axes[1].get_title().split("\n") == ["bad", *long.rsplit(" ", 1)]
    assert not figure.axes[0].axison
    shown = plots.images(rng.random((5, 3, 3)), labels=("time", "band"), title="what it is")
    assert [text.get_text() for text in shown.texts] == ["what it is", "time", "band"]
    assert len(shown.axes) == 5
    assert shown.axes[0].axison
    with pytest.raises(ValueError, match="2 pictures and 1 titles"):
        plots.images(pictures, ["good"])
    with pytest.raises(ValueError, match="0 pictures"):
        plots.images([])


def test_gradient_norms_by_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"call backward\(\) before"):
        plots.gradient_norms_by_layer(model)
    model(pydl.ones((5, 3))).sum().backward()
    (axes,) = plots.gradient_norms_by_layer({"net": model}).axes
    shown = {int(at): norm for line in axes.lines for norm, at in zip(*line.get_data(), strict=True)}
    wanted = [np.linalg.norm(p.grad.numpy()) for p in model.parameters()]
    np.testing.assert_allclose([shown[i] for i in range(4)], wanted, rtol=1e-6)


def test_gradient_norms_by_step_and_the_random_state() -> None:
    pydl.manual_seed(3)
    before = pydl.rand(3).numpy()
    pydl.manual_seed(3)
    (axes,) = plots.gradient_norms_by_step(steps=12, hidden_size=8).axes
    assert np.array_equal(pydl.rand(3).numpy(), before)
    lines = curves(axes)
    assert len(lines) == 6
    _, y = lines['RNN, init="torch"']
    assert y[0] < 1e-2 * y[-1]
    (axes,) = plots.gradient_norms_by_step({"given": np.arange(6.0).reshape(3, 2)}).axes
    np.testing.assert_allclose(curves(axes)["given"][1], [1, np.sqrt(13), np.sqrt(41)])


def test_no_matplotlib_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"\[plots\] needs matplotlib.*pydl\[plot\]"):
        plots.activations(["ReLU"])


def test_attention_shows_the_weights_and_the_words(tmp_path: Path) -> None:
    looks = [np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]]), pydl.asarray([[1.0]])]
    read, written = [["I", "love", "you"], "a"], [["je", "t'aime", "end"], ["b"]]
    figure = plots.attention(looks, read, written, tmp_path / "a.png", "looks")
    assert [text.get_text() for text in figure.texts] == ["looks"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    first, second = figure.axes[:2]
    np.testing.assert_array_equal(first.images[0].get_array(), looks[0])
    assert [label.get_text() for label in first.get_xticklabels()] == ["I", "love", "you"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["je", "t'aime"]
    assert [label.get_text() for label in second.get_xticklabels()] == ["a"]
    with pytest.raises(ValueError, match="2 maps, 1 sequences read"):
        plots.attention(looks, ["abc"], ["ab", "c"])
    with pytest.raises(ValueError, match=r"map 0 has the shape \(2, 3\), expected \(2, 2\)"):
        plots.attention(looks, ["ab", "a"], ["ab", "c"])
    with pytest.raises(ValueError, match="0 maps"):
        plots.attention([], [], [])
