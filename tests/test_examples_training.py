"""The worked examples of training: they run, they learn, and what they say is so. Their pictures were looked at."""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.examples import (
    _shared,
    augmentation,
    cnn,
    digit_rows,
    gradient_health,
    input_normalization,
    linear_regression,
    logistic_regression,
    mlp,
    regularization,
    softmax_regression,
)

pytest.importorskip("sklearn")

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
EXAMPLES = (
    "augmentation", "cnn", "digit_rows", "gradient_health", "input_normalization", "linear_regression",
    "logistic_regression", "mlp", "regularization", "softmax_regression",
)  # fmt: skip


def drawn(folder: pathlib.Path, name: str) -> bool:
    (path,) = folder.glob(f"{name}.*")
    return path.read_bytes()[:5] in (b"\x89PNG\r", b"<svg ", b"<?xml")


@pytest.fixture
def idx_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """The digits as IDX files, so that both kinds of data are read."""
    folder = tmp_path / "idx"
    folder.mkdir()
    data = _shared.images(None)
    for part, x, y in (("train", data.x_train, data.y_train), ("t10k", data.x_test, data.y_test)):
        pydl.data.idx.write(folder / f"{part}-images-idx3-ubyte.gz", x[:, 0])
        pydl.data.idx.write(folder / f"{part}-labels-idx1-ubyte.gz", y.astype(np.uint8))
    return folder


def test_images(idx_folder: pathlib.Path) -> None:
    digits, read = _shared.images(None), _shared.images(str(idx_folder))
    for a, b in zip(digits, read, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert digits.x_train.shape == (1437, 1, 8, 8)
    assert digits.x_train.max() == 255
    assert (digits.classes, digits.pixels) == (10, 64)
    assert len(_shared.images(None, 20).y_train) == 20
    assert set(np.unique(digits.y_test)) == set(range(10))


def test_table() -> None:
    shown = _shared.table([{"name": "a", "value": 0.5}, {"name": "long", "value": 12345.678}])
    assert shown.splitlines() == [
        "name      value",
        "----  ---------",
        "a           0.5",
        "long  1.235e+04",
    ]


def test_what_is_told_on_the_way(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(_shared.announced({"none": 1, "L2": 2})) == ["none", "L2"]
    assert capsys.readouterr().out == "1 of 2: none\n2 of 2: L2\n"
    _shared.say_where(argparse.Namespace(out=tmp_path), "mlp", "seen.png")
    ending = "png" if find_spec("matplotlib") else "svg"
    assert capsys.readouterr().out == f"pictures: written to {tmp_path}/mlp.{ending}, {tmp_path}/seen.png\n"
    _shared.say_where(argparse.Namespace(out=None), "mlp")
    assert capsys.readouterr().out == f"pictures: none was asked for, --out FOLDER draws mlp.{ending}\n"


def test_linear_regression_comes_to_least_squares(tmp_path: pathlib.Path) -> None:
    errors = linear_regression.main(["--epochs", "40", "--out", str(tmp_path)])
    assert errors["gradient descent"] == pytest.approx(errors["least squares"], rel=0.03)
    assert errors["gradient descent"] < 0.75 * errors["the mean"]
    assert drawn(tmp_path, "linear_regression")


def test_logistic_regression(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = logistic_regression.main(["--epochs", "15", "--out", str(tmp_path)])
    assert results["accuracy"] > 0.93
    assert results["auc"] > 0.98
    assert drawn(tmp_path, "logistic_regression")
    assert "3 or 8?" in capsys.readouterr().out


def test_softmax_regression_and_an_idx_folder(idx_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arguments = ["--data", str(idx_folder), "--epochs", "15", "--out", str(tmp_path / "new" / "folder")]
    assert softmax_regression.main(arguments)["accuracy"] > 0.9
    assert drawn(tmp_path / "new" / "folder", "softmax_regression")


@pytest.mark.parametrize("example", [mlp, cnn])
def test_networks_learn_the_digits_and_repeat_themselves(example: Any, tmp_path: pathlib.Path) -> None:
    arguments = ["--epochs", "8", "--out", str(tmp_path)]
    first = example.main(arguments)
    assert first["accuracy"] > 0.96
    assert drawn(tmp_path, example.__name__.rpartition(".")[2])
    if example is mlp:
        assert example.main(arguments) == first
        assert example.main([*arguments, "--seed", "1"]) != first


def test_rows_of_digits_are_read(idx_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--epochs", "8", "--hidden", "32", "--out", str(tmp_path)]
    first = digit_rows.main(arguments)
    assert first["accuracy"] > 0.9
    assert digit_rows.main(["--data", str(idx_folder), *arguments[:4]]) == first
    assert drawn(tmp_path, "digit_rows")


def test_regularization_narrows_the_gap(tmp_path: pathlib.Path) -> None:
    results = regularization.main(["--epochs", "20", "--out", str(tmp_path)])
    assert list(results) == list(regularization.REMEDIES)
    for row in results.values():
        assert row["gap"] == row["val loss"] - row["train loss"]
    assert results["none"]["train loss"] < 0.05
    for name in ("L1", "L2", "elastic net", "augmentation"):
        assert results[name]["train loss"] > results["none"]["train loss"]
        assert results[name]["gap"] < results["none"]["gap"]
    assert drawn(tmp_path, "regularization")


def test_normalized_inputs_learn_faster(tmp_path: pathlib.Path) -> None:
    results = input_normalization.main(["--epochs", "5", "--out", str(tmp_path)])
    scaled, normalized = results["0 to 1"], results["mean 0, variance 1"]
    assert all(normalized[rate] > scaled[rate] for rate in input_normalization.RATES)
    assert results["bytes, 0 to 255"][0.1] < 0.5 < normalized[0.1]
    assert drawn(tmp_path, "input_normalization")


def test_gradients_vanish_explode_and_are_clipped(tmp_path: pathlib.Path) -> None:
    results = gradient_health.main(["--epochs", "3", "--out", str(tmp_path)])
    assert results["σ = 0.01, tanh"]["first / last"] < 1e-6
    assert results["σ = 1, tanh"]["first / last"] > 100
    for name in ("Xavier, tanh", "He, ReLU"):
        assert 0.1 < results[name]["first / last"] < 10
        assert results[name]["test accuracy"] > 0.6
    assert results["3 x He, ReLU"]["training"] == "not finite"
    assert results["3 x He, clipped"]["training"] == "completed"
    assert drawn(tmp_path, "gradient_health")


def test_augmentation_sheet(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    rows = augmentation.main(["--out", str(tmp_path)])
    assert len(rows) == 15
    assert all(x.shape == (10, 1, 8, 8) for x in rows.values())
    assert all(not np.array_equal(x, rows["as they are"]) for name, x in rows.items() if name != "as they are")
    assert drawn(tmp_path, "augmentation")


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mlp.main(["--epochs", "0"])
    assert "expected 1 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mlp.main(["--threads", "0"])
    assert "--threads 0, expected 1 or more" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no such folder"):
        mlp.main(["--data", "nowhere"])


def test_no_scikit_learn_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match=r"pydl\[sklearn\].*--data"):
        _shared.images(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_they_run_by_name(name: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", f"pydl.examples.{name}", "--epochs", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "----" in done.stdout
    assert drawn(tmp_path, name)
    assert f"pictures: written to {tmp_path}" in done.stdout
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"usage: python -m pydl.examples.{name}")


@pytest.mark.slow
def test_nearly_all_digits_are_read_by_their_rows() -> None:
    assert digit_rows.main([])["accuracy"] >= 0.97


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("example", "least"), [(mlp, 0.885), (cnn, 0.925)])
def test_fashion_mnist(example: Any, least: float) -> None:
    assert example.main(["--data", str(FASHION)])["accuracy"] >= least
