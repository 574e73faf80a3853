"""The frames example: its labels say what the frames show, and the network learns to tell."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from pydl.examples import frames


def test_labels_are_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[np.ndarray, float, bool]] = []

    def frame(row: int, column: int, radius: float, seen: bool, random: np.random.Generator) -> np.ndarray:
        drawn.append((np.array([row, column]), radius, seen))
        return np.zeros((frames.SIZE, frames.SIZE), np.float32)

    monkeypatch.setattr(frames, "frame", frame)
    counts = np.zeros(len(frames.EVENTS))
    for seed in range(40):
        drawn.clear()
        x, events = frames.video(np.random.default_rng(seed))
        assert x.shape == (len(events), frames.SIZE**2)
        assert 8 <= len(events) <= 40
        for (before, r0, _), (after, r1, seen), event in zip(drawn, drawn[1:], events[1:], strict=False):
            counts[event] += 1
            step = (after - before + frames.SIZE // 2) % frames.SIZE - frames.SIZE // 2
            assert seen == (event != frames.BLINK)
            assert (r1 > r0, r1 < r0) == (event == frames.GROW, event == frames.SHRINK)
            if event == frames.JUMP:
                assert (np.abs(step) >= 3).all()
            else:
                assert tuple(step) == frames.MOVES.get(int(event), (0, 0))
    assert (counts > 20).all()


def test_the_blob_is_where_it_should_be() -> None:
    image = frames.frame(0, 11, 1.5, True, np.random.default_rng(0))
    assert np.unravel_index(image.argmax(), image.shape) == (0, 11)
    assert image[11, 11] > 0.5 < image[0, 0]  # joined at the edges
    assert abs(frames.frame(0, 11, 1.5, False, np.random.default_rng(0))).max() < 0.5


def test_the_strip_is_drawn(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    x, events = frames.video(np.random.default_rng(1))
    frames.strip(x, events, np.roll(events, 1), tmp_path / "strip.png")
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")
