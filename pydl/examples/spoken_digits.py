"""Spoken digits: log-mel frames of a recording, of any length, and which digit was said (many-to-one).

The data is the Free Spoken Digit Dataset: files DIGIT_SPEAKER_NUMBER.wav (mono, 16 bits, 8 kHz), 50 by each of 6
speakers for each digit, in the folder --data, or spoken-digits in the folder that the variable PYDL_DATA names. It is
split by recording, as its authors do: the numbers 0 to 4 of each digit and speaker (300) are the test part, so that all
voices are known. With --speaker NAME all recordings of one speaker are, and the test is of a voice never heard.

    python -m pydl.examples.spoken_digits [--data FOLDER] [--epochs 15] [--speaker theo] [--out FOLDER]
"""

from __future__ import annotations

import os
import re
import wave
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import pydl
from pydl.examples._shared import check_pictures, options, run, say_where, table, train
from pydl.models import SequenceClassifier

RATE, WINDOW, HOP, FFT, BANDS = 8000, 200, 80, 256, 40  # Hz; 25 ms every 10 ms
Array = npt.NDArray[Any]


class Recording(NamedTuple):
    """What was said, by whom, and the sound, (samples,) in -1..1."""

    digit: int
    speaker: str
    number: int
    sound: Array


def recordings(folder: str | None) -> list[Recording]:
    """All of a folder; where there is none, what is needed."""
    root = Path(folder) if folder else Path(os.environ.get("PYDL_DATA", ""), "spoken-digits")
    found = []
    for path in sorted(root.glob("*.wav")):
        name = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        form: Any = "no WAV file"
        sound = None
        with suppress(wave.Error, EOFError), wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") if form == (1, 2, RATE) else None
        if name is None or sound is None or len(sound) == 0:
            raise ValueError(
                f"{path}: {form}, expected DIGIT_SPEAKER_NUMBER.wav, mono (1), 2 bytes, {RATE} Hz, not empty"
            )
        found.append(Recording(int(name[1]), name[2], int(name[3]), sound / 32768))
    if not found:
        raise SystemExit(
            f"no WAV files in {root}; it needs the Free Spoken Digit Dataset (github.com/Jakobovski/"
            "free-spoken-digit-dataset), its folder recordings as --data or as spoken-digits under PYDL_DATA"
        )
    return found


def mel_filters() -> Array:
    """Triangles whose corners are evenly spaced in mel = 2595 log10(1 + f / 700), (FFT // 2 + 1, BANDS)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(FFT, 1 / RATE)[:, None]
    rising = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def log_mel(sound: Array) -> Array:
    """Sound (samples,) -> frames (T, BANDS), their mean subtracted, so that loudness does not matter."""
    padded = np.pad(sound, (0, max(0, WINDOW - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    energy = abs(np.fft.rfft(frames, FFT)) ** 2 @ mel_filters()
    logs = np.log(energy + 1e-6 * energy.max() + 1e-12)
    return (logs - logs.mean()).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracy on the test part."""
    where = "a folder of WAV files; default: spoken-digits under PYDL_DATA"
    chosen = options(__doc__, 15, arguments, data=where, hidden=96, speaker="")
    check_pictures(chosen)
    spoken = recordings(chosen.data)
    speakers = sorted({each.speaker for each in spoken})
    if chosen.speaker and chosen.speaker not in speakers:
        raise SystemExit(f"got --speaker {chosen.speaker}, expected one of {', '.join(speakers)}")
    tested = np.array([each.speaker == chosen.speaker if chosen.speaker else each.number < 5 for each in spoken])
    split = f"all of {chosen.speaker}" if chosen.speaker else f"numbers 0 to 4 of all {len(speakers)} speakers"

    x, y = [log_mel(each.sound) for each in spoken], np.array([each.digit for each in spoken])
    frames = np.concatenate([x[i] for i in np.flatnonzero(~tested)])
    mean, deviation = frames.mean(axis=0), frames.std(axis=0)
    places = {"training": np.flatnonzero(~tested), "test": np.flatnonzero(tested)}
    parts = {part: ([(x[i] - mean) / deviation for i in which], y[which]) for part, which in places.items()}
    print(f"{sum(~tested):,} recordings to train on, {sum(tested):,} to test: {split}; {min(map(len, x))} to"
          f" {max(map(len, x))} frames of {BANDS} bands")  # fmt: skip

    model = SequenceClassifier(
        BANDS, 10, pooling="mean", hidden_size=chosen.hidden, num_layers=2, bidirectional=True, dropout=0.3
    )
    train(model, *parts["training"], 32, 4e-3, chosen, validation_data=parts["test"])
    results = {part: model.evaluate(*both) for part, both in parts.items()}
    print(table([{"part": part, "recordings": len(parts[part][1]), **result} for part, result in results.items()]))
    test, found = [spoken[i] for i in places["test"]], model.predict(parts["test"][0])
    hits = found == parts["test"][1]
    voices = {each: [hit for hit, one in zip(hits, test) if one.speaker == each] for each in speakers}
    print(table([{"speaker": s, "right": f"{sum(told)} of {len(told)}"} for s, told in voices.items() if told]))
    if chosen.out is not None:
        wrong, right = np.flatnonzero(~hits)[:4], np.flatnonzero(hits)
        evenly = np.linspace(0, len(right) - 1, min(len(right), 12 - len(wrong))).astype(int)
        shown = [*wrong, *right[evenly]]
        titles = [f"{test[i].speaker}: {test[i].digit}" + ("" if hits[i] else f", heard {found[i]}") for i in shown]
        share = f"{results['test']['accuracy']:.1%} of {len(test):,} recordings are right"
        pydl.plots.images(
            [parts["test"][0][i].T for i in shown], titles, [n for n, i in enumerate(shown) if not hits[i]],
            chosen.out / "spoken_digits.png", labels=("frame, one in 10 ms", "mel band"),
            title=f"Who said what; {share}, heard otherwise in red" if len(wrong) else f"Who said what; {share}",
            cmap="magma", vmin=-3, vmax=3, origin="lower", aspect="auto",
        )  # fmt: skip
        counts = pydl.metrics.confusion_matrix(parts["test"][1], found)
        path = chosen.out / "spoken_digits_confusion.png"
        pydl.plots.confusion_matrix(counts, path=path, title=f"{share}: {split}")
    say_where(chosen, "spoken_digits.png", "spoken_digits_confusion.png")
    return results["test"]


if __name__ == "__main__":
    run(main)
