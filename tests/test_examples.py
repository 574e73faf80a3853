"""The examples: short enough to read, and they learn."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import pydl
from pydl.examples import _shared, char_rnn, min_char_rnn, mlp, spoken_digits, texts, translation
from pydl.text import CharVocabulary

TEXT = "the cat sat on the mat; " * 60


def test_they_are_as_short_as_promised() -> None:
    for module, most in ((min_char_rnn, 112), (char_rnn, 50)):
        assert len(pathlib.Path(module.__file__).read_text().splitlines()) <= most


def test_min_char_rnn_gradients_by_finite_differences(rng: np.random.Generator) -> None:
    model = min_char_rnn.MinCharRNN(CharVocabulary.from_text(TEXT), hidden=7)
    for parameter in model.parameters:
        parameter.copy_(pydl.asarray(rng.normal(size=parameter.shape).astype(np.float32) * 0.5))
    ids = model.vocabulary.encode(TEXT[:10])
    inputs, targets = pydl.asarray(ids[:-1]), pydl.asarray(ids[1:])
    h0 = pydl.asarray(rng.normal(size=(1, 7)).astype(np.float32) * 0.3)
    _, gradients, _ = model.loss_and_gradients(inputs, targets, h0)
    for parameter, gradient in zip(model.parameters, gradients, strict=True):
        direction = pydl.asarray(rng.normal(size=parameter.shape).astype(np.float32))
        losses = []
        for step in (1e-2, -2e-2):
            parameter.add_(step * direction)
            losses.append(model.loss_and_gradients(inputs, targets, h0)[0] * len(targets))
        parameter.add_(1e-2 * direction)
        expected = (losses[0] - losses[1]) / 2e-2
        assert pydl.sum(gradient * direction).item() == pytest.approx(expected, rel=0.02, abs=0.02)


def test_min_char_rnn_learns(capsys: pytest.CaptureFixture[str]) -> None:
    loss = min_char_rnn.main(TEXT, iterations=3000)
    assert loss < 0.3 * math.log(len(set(TEXT)))
    assert "the cat sat on" in capsys.readouterr().out


def test_char_rnn_learns(capsys: pytest.CaptureFixture[str]) -> None:
    char_rnn.main(TEXT, epochs=40, batch=4, steps=25)
    losses = [float(line.split("loss ")[1]) for line in capsys.readouterr().out.splitlines() if "loss " in line]
    assert losses[-1] < 0.1 * losses[0]


def test_what_cannot_be_read_is_one_line_and_status_2(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For every example, whatever --data is: a binary file, nothing, a folder without data, a damaged file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    binary, nowhere, short = (str(tmp_path / name) for name in ("binary", "nowhere", "short"))
    pathlib.Path(binary).write_bytes(b"\x89PNG\0\xff" * 100)
    pathlib.Path(short).write_text("a\tb\n")
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "1_a_0.wav").write_bytes(b"RIFF")
    cases: list[tuple[Any, list[str], str]] = [
        (mlp.main, ["--data", binary], "binary: is no folder, expected"),
        (mlp.main, ["--data", nowhere], "nowhere: no such folder"),
        (mlp.main, ["--data", str(folder)], "folder: no file train-images"),
        (texts.main, ["--kind", "c", "--data", binary], "the file is binary"),
        (texts.main, ["--kind", "c", "--data", str(folder)], "no text file that ends in .c"),
        (texts.main, ["--data", short], "a text of 4 characters"),
        (translation.main, ["--data", binary], "the file is binary"),
        (translation.main, ["--data", short], "1 sentences of at most 5 words"),
        (spoken_digits.main, ["--data", binary], "no WAV files"),
        (spoken_digits.main, ["--data", str(tmp_path / "wav")], "1_a_0.wav: no WAV file, expected DIGIT_SPEAKER"),
        (mlp.main, ["--out", short], "short: File exists"),
    ]
    for main, arguments, message in cases:
        with pytest.raises(SystemExit) as ended:
            _shared.run(lambda main=main, arguments=arguments: main(arguments))
        assert ended.value.code == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line, line
        assert "[" not in line.replace("pydl[", ""), line
    for file in pathlib.Path(_shared.__file__).parent.glob("[a-z]*.py"):
        assert (
            file.read_text()
            .rpartition("__main__")[2]
            .split("\n", 1)[1]
            .startswith(("    run(main)", "    run_on_text("))
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["min_char_rnn", "char_rnn"])
def test_they_run_by_name(name: str, tmp_path: pathlib.Path) -> None:
    for arguments in ([], [str(tmp_path / "text.txt")]):
        (tmp_path / "text.txt").write_text(TEXT * 20)
        done = subprocess.run(
            [sys.executable, "-m", f"pydl.examples.{name}", *arguments], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert done.stdout.count("loss") > 3
