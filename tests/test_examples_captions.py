"""The captions example: its sentences say what its scenes show, and the network learns to say it of new ones."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from pydl.examples import captions

MARKS = {"bright": np.ones((1, 8, 8)), "dim": np.full((1, 8, 8), 0.5)}


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of a filled square."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask.sum() == len(rows) * len(columns)
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.mark.parametrize("relation", list(captions.RELATIONS))
def test_scenes_show_what_is_said(relation: str, rng: np.random.Generator) -> None:
    places = set()
    for _ in range(60):
        sizes = rng.choice(["small", "large"], 2).tolist()
        kinds = ["bright", "dim"] if rng.random() < 0.5 else ["dim", "bright"]
        first, second = zip(sizes, kinds, strict=True)
        assert (
            captions.sentence((first, relation, second))
            == f"a {sizes[0]} {kinds[0]} {relation} a {sizes[1]} {kinds[1]}"
        )
        image = captions.scene((first, relation, second), MARKS, rng)[0] / 255
        found = {"bright": box(image > 0.75), "dim": box((image > 0.35) & (image < 0.75))}
        a, b = (found[kind] for kind in kinds)
        for (top, bottom, left, right), size in ((a, sizes[0]), (b, sizes[1])):
            least, most = captions.SIDES[size]
            assert least <= bottom - top == right - left <= most
        down, across = (b[0] + b[1] - a[0] - a[1]) / 2, (b[2] + b[3] - a[2] - a[3]) / 2
        assert {
            "left of": a[3] <= b[2] and abs(down) < 8 < across,
            "above": a[1] <= b[0] and abs(across) < 8 < down,
            "above and left of": a[3] <= b[2] and a[1] <= b[0] and min(down, across) > 12,
            "below and left of": a[3] <= b[2] and b[1] <= a[0] and min(-down, across) > 12,
        }[relation]
        places.add(a)
    assert len(places) > 30


def test_what_is_held_out_is_never_trained_on(rng: np.random.Generator) -> None:
    pytest.importorskip("sklearn")
    trained, held_out = captions.compositions(captions.DIGITS, rng)
    assert len(set(trained) | set(held_out)) == len(trained) + len(held_out) == 1600
    assert len(held_out) == 320
    words = [{word for each in part for word in captions.sentence(each).split()} for part in (trained, held_out)]
    assert words[0] == words[1]
    x, y = captions.scenes(held_out[:1], 5, captions.digits()[1], rng)
    assert x.shape == (5, 1, 44, 44)
    assert y == [captions.sentence(held_out[0])] * 5


def test_resized_keeps_the_mean_of_a_plane_and_its_corners(rng: np.random.Generator) -> None:
    image = np.add.outer(np.arange(8.0), 2 * np.arange(8.0))
    assert np.allclose(captions.resized(image, 8), image)
    assert captions.resized(image, 16)[0, 0] == image[0, 0]
    assert captions.resized(image, 16).mean() == pytest.approx(image.mean())
    assert captions.resized(np.ones((8, 8)), 11) == pytest.approx(np.ones((11, 11)))


def test_shapes_are_told_apart() -> None:
    made = list(captions.shapes().values())
    for i, one in enumerate(made):
        assert 0.1 < one.mean() <= 1
        assert all(np.mean(one != other) > 0.1 for other in made[:i])


def test_it_runs_on_shapes_and_tells_samples(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    exact = captions.main(["--shapes", "--epochs", "1", "--count", "256", "--test", "64", "--out", str(tmp_path)])
    assert set(exact) == {"greedy", "beam of 3"}
    assert (tmp_path / "captions.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert out.startswith("drawn shapes\n820 combinations are trained on, in 256 scenes; 204 are held out, in 64")
    assert out.count("epoch 1 ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("data", ["--no-shapes", "--shapes"])
def test_new_combinations_are_told(data: str) -> None:
    if data == "--no-shapes":
        pytest.importorskip("sklearn")
    assert min(captions.main([data]).values()) >= 0.9
