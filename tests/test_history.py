"""History: lists, CSV there and back, and what its pictures show."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest

import pydl
from pydl import History
from pydl.train.charts import Chart, Curve, Panel, nice_ticks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def history() -> History:
    """Ten epochs; the best validation loss, 0.4, is that of epoch 4 (from 0)."""
    history = History()
    for epoch in range(10):
        loss, val = 1 / (epoch + 1), 0.4 + 0.05 * abs(epoch - 4)
        logs = {"loss": loss, "accuracy": 1 - loss / 2, "val_loss": val, "val_accuracy": 0.5 + epoch / 30, "lr": 0.1}
        history.on_epoch_end(epoch, logs)
    return history


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_lists(history: History) -> None:
    assert history.epoch == list(range(10))
    assert history.history["loss"][3] == history["loss"][3] == 0.25
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "lr"] == list(history.keys())
    assert "loss" in history
    assert len(history) == 10
    assert history.best_epoch() == 4
    assert history.best_epoch("val_accuracy") == 9
    assert history.best_epoch("val_accuracy", mode="min") == 0
    with pytest.raises(KeyError, match="no 'mae'; it has loss, accuracy"):
        history["mae"]
    assert pydl.callbacks.History is History


def test_late_missing_and_repeated_numbers() -> None:
    history = History()
    history.on_epoch_end(0, {"loss": 3.0})
    history.on_epoch_end(1, {"loss": 2.0, "val_loss": 5.0, "confusion_matrix": [[1, 2], [3, 4]]})
    history.on_epoch_end(2, {"loss": math.nan})
    assert str(history.history) == str({"loss": [3.0, 2.0, math.nan], "val_loss": [math.nan, 5.0, math.nan]})
    assert history.best_epoch() == 1
    assert history.best_epoch("loss") == 1
    history.on_epoch_end(1, {"loss": 1.5, "val_loss": 4.0})  # done again after a resume
    assert history.epoch == [0, 1]
    assert history["loss"] == [3.0, 1.5]
    assert History().best_epoch is not None
    with pytest.raises(KeyError):
        History().best_epoch()


def test_csv_and_state_there_and_back(history: History, tmp_path: Path) -> None:
    history.history["loss"][2] = math.nan
    history.history["loss"][3] = math.inf
    history.history["lr"][0] = 1 / 3
    path = tmp_path / "history.csv"
    history.to_csv(path)
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,accuracy,val_loss,val_accuracy,lr"
    assert lines[1].endswith(",0.3333333333333333")
    assert len(lines) == 11
    again = History.from_csv(path)
    assert str(again.history) == str(history.history)
    assert again.epoch == history.epoch
    other = History()
    other.load_state_dict(history.state_dict())
    assert str(other.history) == str(history.history)
    other.to_csv(tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_bytes() == path.read_bytes()

    (tmp_path / "bad.csv").write_text("epoch,loss\n0,0.5\n1,half\n")
    with pytest.raises(ValueError, match=r"bad.csv, line 3: got '1,half', expected 2 numbers"):
        History.from_csv(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'epoch'"):
        History.from_csv(tmp_path / "bad.csv")


def test_svg_shows_the_curves_and_the_best_epoch(history: History, tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    chart = history.plot(path, title="digits & more")
    svg = path.read_text()
    assert svg == chart.svg
    root = ElementTree.fromstring(svg)  # well-formed
    assert "digits & more" in texts(svg)
    for text in ("loss", "accuracy", "epoch", "training", "validation", "best: 0.4 (epoch 5)"):
        assert text in texts(svg)
    assert "lr" not in texts(svg)
    panels = root.findall(f"{SVG}g")
    assert len(panels) == 2
    lines = [line.attrib["points"].split() for line in panels[0].iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [10, 10]
    heights = [float(point.split(",")[1]) for point in lines[1]]
    assert heights.index(max(heights)) == 4  # the lowest loss is the lowest point: y grows downwards
    rings = [c for c in panels[0].iter(f"{SVG}circle") if c.attrib["r"] == "5"]
    assert lines[1][4] in {f"{c.attrib['cx']},{c.attrib['cy']}" for c in rings}
    # Heights tell the truth: equal differences of values are equal distances.
    steps = [heights[i] - heights[i - 1] for i in range(1, 5)]
    assert max(steps) - min(steps) < 0.3
    assert all(
        0 <= float(p.split(",")[0]) <= 460 and 0 <= float(p.split(",")[1]) <= 320 for line in lines for p in line
    )


def test_chosen_metrics(history: History) -> None:
    svg = history.plot(metrics=["accuracy", "lr"], monitor="val_accuracy").svg
    assert {"lr", "accuracy", "best: 0.8 (epoch 10)"} <= set(texts(svg))
    assert "loss" not in texts(svg)
    assert texts(history.plot(metrics="loss").svg).count("loss") == 2  # title and axis
    with pytest.raises(ValueError, match=r"\['mae'\], expected some of loss, accuracy, lr"):
        history.plot(metrics=["mae"])
    with pytest.raises(ValueError, match="nothing to draw"):
        History().plot()


def test_png_with_matplotlib(history: History, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    chart = history.plot(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    history.plot(tmp_path / "history.pdf")
    assert (tmp_path / "history.pdf").read_bytes().startswith(b"%PDF")
    loss, accuracy = chart.figure().axes
    curves = {str(line.get_label()): line.get_data() for line in loss.lines}
    assert list(curves["training"][0]) == list(range(1, 11))
    assert list(curves["validation"][1]) == history["val_loss"]
    assert (list(curves["best: 0.4 (epoch 5)"][0]), list(curves["best: 0.4 (epoch 5)"][1])) == ([5], [0.4])
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert accuracy.get_ylabel() == "accuracy"
    with pytest.raises(ValueError, match=r"history.xyz, expected an ending among"):
        history.plot(tmp_path / "history.xyz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.pdf", "history.png"]


def test_without_matplotlib(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    history.plot(tmp_path / "history.svg")
    with pytest.raises(ImportError, match=r"pydl\[plot\].*ends in .svg"):
        history.plot(tmp_path / "history.png")


@pytest.mark.parametrize("log", [False, True])
def test_charts_of_odd_numbers(log: bool) -> None:
    cases = [[1.0], [2.0, 2.0], [math.nan, math.inf], [1e-30, 1e30], [0.0, 0.0], [-5.0, 1e9], [], [1.0, math.nan, 3.0]]
    for values in cases:
        chart = Chart([Panel("p", "x", "y", [Curve("a", range(len(values)), values)], log_y=log, integer_x=True)])
        ElementTree.fromstring(chart.svg)
        assert "nan" not in chart.svg
        assert "inf" not in chart.svg


def test_gaps_break_a_line_and_rare_points_are_joined() -> None:
    nan = math.nan
    gap = Panel("p", "x", "y", [Curve("a", range(5), [1.0, 2.0, nan, 3.0, 4.0])])
    rare = Panel("p", "x", "y", [Curve("a", range(5), [nan, 2.0, nan, 3.0, nan])])
    assert Chart([gap]).svg.count("<polyline") == 2
    assert Chart([rare]).svg.count("<polyline") == 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (1e-9, 3e-9), (0.997, 1.003), (12345, 67890)])
def test_ticks_are_round_inside_and_few(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 * abs(high) <= ticks[0]
    assert ticks[-1] <= high + 1e-9 * abs(high)
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)
    assert float(f"{steps[0]:.2g}") == pytest.approx(steps[0], rel=1e-6)
