"""The examples glimpses and drawing: their data are what they say, and they learn. Their pictures were looked at."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.examples import _shared, drawing, glimpses
from pydl.models import Draw, RecurrentAttention

pytest.importorskip("sklearn")

MNIST = pathlib.Path(os.environ.get("PYDL_DATA", "nowhere"), "mnist")  # the four files


def write_idx(folder: pathlib.Path, count: int) -> str:
    """A few digits of 12 x 12 pixels as IDX files."""
    data = _shared.images(None)
    for part, x, y in (("train", data.x_train, data.y_train), ("t10k", data.x_test, data.y_test)):
        pydl.data.idx.write(folder / f"{part}-images-idx3-ubyte", _shared.enlarged(x[:count], 12)[:, 0])
        pydl.data.idx.write(folder / f"{part}-labels-idx1-ubyte", y[:count].astype(np.uint8))
    return str(folder)


def test_enlarged_keeps_what_is_there(rng: np.random.Generator) -> None:
    x = np.zeros((2, 1, 8, 8), np.uint8)
    x[0, 0, 2, 5] = 255
    large = _shared.enlarged(x, 16)
    assert (large.shape, large.dtype) == ((2, 1, 16, 16), np.uint8)
    assert (large[1] == 0).all()
    rows, columns = np.nonzero(large[0, 0] > 100)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {(4, 10), (4, 11), (5, 10), (5, 11)}
    constant = np.full((1, 1, 8, 8), 77, np.uint8)
    assert (_shared.enlarged(constant, 20) == 77).all()


def test_digits_are_placed_whole_and_everywhere() -> None:
    x = _shared.images(None).x_test[:40]
    found = glimpses.placed(x, 5, np.random.default_rng(0))
    assert found.shape == (200, 1, 28, 28)
    ink = _shared.enlarged(x, 20).sum(axis=(1, 2, 3), dtype=np.int64)
    assert np.array_equal(found.sum(axis=(1, 2, 3), dtype=np.int64), np.repeat(ink, 5))
    one = glimpses.placed(np.full((1, 1, 8, 8), 9, np.uint8), 2000, np.random.default_rng(0))[:, 0]
    corners = {tuple(np.argwhere(image)[0].tolist()) for image in one}
    assert corners == {(row, column) for row in range(9) for column in range(9)}


def test_a_view_is_sharp_in_the_middle() -> None:
    patches = np.stack([np.full((4, 4), 3.0), np.full((4, 4), 2.0), np.full((4, 4), 1.0)])
    seen = glimpses.view(patches)
    expected = np.ones((16, 16))
    expected[4:12, 4:12] = 2.0
    expected[6:10, 6:10] = 3.0
    assert np.array_equal(seen, expected)
    assert np.array_equal(glimpses.view(patches[:1]), patches[0])


def test_coins_have_the_pixels_brightness() -> None:
    x = np.array([0, 51, 204, 255], np.uint8).reshape(1, 1, 2, 2).repeat(20000, axis=0)
    found = drawing.binarized(x, np.random.default_rng(0))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 255}
    white = (found == 255).mean(axis=0).ravel()
    assert white[0] == 0.0
    np.testing.assert_allclose(white[1:3], [0.2, 0.8], atol=0.015)
    assert white[3] == 1.0


def test_independent_pixels_is_the_sum_of_entropies(rng: np.random.Generator) -> None:
    p = rng.uniform(0.1, 0.9, (1, 3, 4))
    x = np.where(rng.random((50000, 1, 3, 4)) < p, 255, 0).astype(np.uint8)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert drawing.independent_pixels(x[:25000], x[25000:]) == pytest.approx(entropy, rel=0.01)


def test_pictures_are_drawn(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    x = np.random.default_rng(0).integers(0, 256, (3, 1, 12, 12), dtype=np.uint8)
    look = RecurrentAttention(12, 12, 10, glimpses=3, patch=4, scales=2, hidden_size=8).look(x)
    glimpses.paths(x, np.arange(3), look, tmp_path / "a.png")
    drawing.strip(Draw(6, 9, steps=3, hidden_size=8, latent_size=2).sample(4), tmp_path / "b.png")
    for name in "ab":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("example", [glimpses, drawing])
def test_an_idx_folder_goes_through(example: Any, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_idx(tmp_path, 60)
    first = example.main(["--data", folder, "--epochs", "1"])
    assert "60 images to train on" in capsys.readouterr().out
    assert example.main(["--data", folder, "--epochs", "1"]) == first
    assert example.main(["--data", folder, "--epochs", "1", "--seed", "1"]) != first


@pytest.mark.slow
def test_glimpses_reach_their_figure(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = glimpses.main(["--out", str(tmp_path)])
    policy = right.pop("where its policy says")
    assert policy >= 0.95
    assert right["at random places"] < policy - 0.2
    assert right["where it looks in other images"] < policy - 0.02
    assert right["at random places, and trained so"] < policy
    assert "where its policy says" in capsys.readouterr().out
    assert (tmp_path / "glimpses.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_drawing_is_far_better_than_independent_pixels(tmp_path: pathlib.Path) -> None:
    nats = drawing.main(["--epochs", "4", "--out", str(tmp_path)])
    assert nats["bound"] == pytest.approx(nats["reconstruction"] + nats["divergence"], rel=1e-5)
    assert nats["bound"] < 0.75 * nats["independent pixels"]
    assert nats["divergence"] > 5
    assert (tmp_path / "drawing.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="PYDL_DATA names no folder with MNIST's files in mnist")
def test_glimpses_on_mnist() -> None:
    assert glimpses.main(["--data", str(MNIST)])["where its policy says"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glimpses", "drawing"])
def test_they_run_by_name(name: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "idx").mkdir()
    folder = write_idx(tmp_path / "idx", 200)
    command = [sys.executable, "-m", f"pydl.examples.{name}", "--data", folder, "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "200 images to train on" in done.stdout
    assert (tmp_path / f"{name}.png").exists()
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"usage: python -m pydl.examples.{name}")
