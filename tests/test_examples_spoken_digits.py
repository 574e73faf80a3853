"""The spoken digits example: its features, its splits, what it says on a bare machine; on real data where it is."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import wave

import numpy as np
import pytest

from pydl.examples import spoken_digits as example

SECOND = np.arange(example.RATE) / example.RATE


def write(path: pathlib.Path, sound: np.ndarray, rate: int = example.RATE) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((sound * 32767).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A tone for each digit, of different lengths and loudness, by two speakers, seven times."""
    folder, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    for digit, (speaker, pitch), number in (
        (d, s, n) for d in range(10) for s in (("a", 1), ("b", 1.05)) for n in range(7)
    ):
        time = SECOND[: int(random.integers(1200, 4000))]
        sound = np.sin(2 * np.pi * 250 * 1.25**digit * pitch * time) + random.normal(0, 0.05, len(time))
        write(folder / f"{digit}_{speaker}_{number}.wav", sound * random.uniform(0.05, 0.5))
    return folder


def test_mel_filters() -> None:
    filters = example.mel_filters()
    frequencies = np.fft.rfftfreq(example.FFT, 1 / example.RATE)
    mel = 2595 * np.log10(1 + frequencies / 700)
    step = 2595 * np.log10(1 + 4000 / 700) / (example.BANDS + 1)
    assert filters.shape == (129, example.BANDS)
    inside = (mel >= step) & (mel <= step * example.BANDS)
    assert np.allclose(filters.sum(axis=1)[inside], 1)  # a triangle falls where the next one rises
    for band in range(example.BANDS):
        carries = filters[:, band] > 0
        assert ((mel > step * band - 1e-9) & (mel < step * (band + 2) + 1e-9))[carries].all()


def test_log_mel_finds_the_tone_at_any_loudness() -> None:
    step = 2595 * np.log10(1 + 4000 / 700) / (example.BANDS + 1)
    for hertz in (500, 1000, 2500):
        tone = np.sin(2 * np.pi * hertz * SECOND[:2000])
        frames = example.log_mel(tone)
        assert frames.shape == (1 + (2000 - example.WINDOW) // example.HOP, example.BANDS)
        assert abs(frames.mean(axis=0).argmax() + 1 - 2595 * np.log10(1 + hertz / 700) / step) < 1
        np.testing.assert_allclose(example.log_mel(0.01 * tone), frames, atol=1e-3)
    assert example.log_mel(np.zeros(50)).tolist() == [[0.0] * example.BANDS]


def test_it_learns_tones_and_says_how_it_split(
    tones: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["--data", str(tones), "--epochs", "20", "--hidden", "24"]
    assert example.main([*arguments, "--out", str(tmp_path)])["accuracy"] > 0.95
    out = capsys.readouterr().out
    assert "40 recordings to train on, 100 to test: numbers 0 to 4 of all 2 speakers" in out
    for name in ("spoken_digits", "spoken_digits_confusion"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    example.main([*arguments, "--epochs", "2", "--speaker", "b"])
    out = capsys.readouterr().out
    assert "70 recordings to train on, 70 to test: all of b" in out
    assert "of 70" in out
    with pytest.raises(SystemExit, match="--speaker c, expected one of a, b"):
        example.main([*arguments, "--speaker", "c"])


def test_files_of_another_form_are_named(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "3_a_0.wav", SECOND, rate=16000)
    with pytest.raises(ValueError, match=r"3_a_0.wav: \(1, 2, 16000\), expected .*8000 Hz"):
        example.recordings(str(tmp_path))
    (tmp_path / "3_a_0.wav").unlink()
    write(tmp_path / "three.wav", SECOND)
    with pytest.raises(ValueError, match=r"three.wav: .*expected DIGIT_SPEAKER_NUMBER.wav"):
        example.recordings(str(tmp_path))


def test_a_bare_machine_is_told_what_is_needed() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYDL_DATA"}
    command = [sys.executable, "-m", "pydl.examples.spoken_digits"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Free Spoken Digit Dataset" in line
    assert "PYDL_DATA" in line


@pytest.mark.slow
@pytest.mark.skipif("PYDL_DATA" not in os.environ, reason="PYDL_DATA names the folder of spoken-digits")
def test_real_digits_by_recording() -> None:
    assert example.main([])["accuracy"] >= 0.95
