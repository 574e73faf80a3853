"""Spoken digits: log-mel frames of a recording, of any length, and which digit was said (many-to-one).

The data is the Free Spoken Digit Dataset: files DIGIT_SPEAKER_NUMBER.wav (mono, 16 bits, 8 kHz), 50 by each of 6
speakers for each digit, in the folder --data, or spoken-digits in the folder that the variable PYDL_DATA names. It is
split by recording, as its authors do: the numbers 0 to 4 of each digit and speaker (300) are the test part, so that all
voices are known. With --speaker NAME all recordings of one speaker are, and the test is of a voice never heard.

    python -m pydl.examples.spoken_digits [--data FOLDER] [--epochs 15] [--speaker theo] [--out FOLDER]
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pydl.examples._shared import confusion, options, pyplot, table
from pydl.models import SequenceClassifier
from pydl.optim.lr_scheduler import OneCycleLR

RATE, WINDOW, HOP, FFT, BANDS = 8000, 200, 80, 256, 40  # Hz; 25 ms every 10 ms
BATCH, PEAK = 32, 4e-3
Array = npt.NDArray[Any]


class Recording(NamedTuple):
    """What was said, by whom, and the sound, (samples,) in -1..1."""

    digit: int
    speaker: str
    number: int
    sound: Array


def recordings(folder: str | None) -> list[Recording]:
    """All of a folder; where there is none, a line that tells what is needed, and exit status 2."""
    root = Path(folder) if folder else Path(os.environ.get("PYDL_DATA", ""), "spoken-digits")
    found = []
    for path in sorted(root.glob("*.wav")):
        name = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)
        with wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") if form == (1, 2, RATE) else None
        if name is None or sound is None or len(sound) == 0:
            raise ValueError(
                f"{path}: {form}, expected DIGIT_SPEAKER_NUMBER.wav, mono (1), 2 bytes, {RATE} Hz, not empty"
            )
        found.append(Recording(int(name[1]), name[2], int(name[3]), sound / 32768))
    if not found:
        print(
            f"spoken_digits: no WAV files in {root}; it needs the Free Spoken Digit Dataset (github.com/Jakobovski/"
            "free-spoken-digit-dataset), its folder recordings as --data or as spoken-digits under PYDL_DATA",
            file=sys.stderr,
        )
        raise SystemExit(2)
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


def draw(taken: Sequence[tuple[Recording, Array, int]], path: Path) -> None:
    """Spectrograms with what was said and what was heard."""
    plt = pyplot()
    figure, axes = plt.subplots(3, 4, figsize=(13, 8), layout="constrained", sharey=True)
    for axis, (recording, frames, found) in zip(axes.flat, taken):
        seconds = len(frames) * HOP / RATE
        axis.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, BANDS))
        right = found == recording.digit
        said = f"{recording.speaker} says {recording.digit}: " + ("heard" if right else f"heard {found}")
        axis.set_title(said, fontsize=10, color="black" if right else "firebrick")
    figure.supxlabel("seconds")
    figure.supylabel("mel band")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; loss and accuracy on the test part."""
    where = "of WAV files; default: spoken-digits under PYDL_DATA"
    chosen = options(__doc__, 15, arguments, where, hidden=96, speaker=("", "whose recordings are all held out"))
    if chosen.out is not None:
        pyplot()  # what is missing is better told before the work
    everything = recordings(chosen.data)
    speakers = sorted({each.speaker for each in everything})
    if chosen.speaker and chosen.speaker not in speakers:
        raise SystemExit(f"got --speaker {chosen.speaker}, expected one of {', '.join(speakers)}")

    def is_test(each: Recording) -> bool:
        return each.speaker == chosen.speaker if chosen.speaker else each.number < 5

    x = [log_mel(each.sound) for each in everything]
    test = [i for i, each in enumerate(everything) if is_test(each)]
    train = [i for i, each in enumerate(everything) if not is_test(each)]
    frames = np.concatenate([x[i] for i in train])
    x = [(each - frames.mean(axis=0)) / frames.std(axis=0) for each in x]
    y = np.array([each.digit for each in everything])
    parts = {name: ([x[i] for i in part], y[part]) for name, part in (("training", train), ("test", test))}
    split = f"all of {chosen.speaker}" if chosen.speaker else f"numbers 0 to 4 of all {len(speakers)} speakers"
    print(f"{len(train):,} recordings to train on, {len(test):,} to test: {split}; {min(map(len, x))} to"
          f" {max(map(len, x))} frames of {BANDS} bands")  # fmt: skip

    model = SequenceClassifier(
        BANDS, 10, pooling="mean", hidden_size=chosen.hidden, num_layers=2, bidirectional=True, dropout=0.3
    )
    steps = chosen.epochs * math.ceil(len(train) / BATCH)
    begin = time.perf_counter()
    model.fit(
        *parts["training"], BATCH, chosen.epochs, seed=chosen.seed, validation_data=parts["test"],
        scheduler=lambda optimizer: OneCycleLR(optimizer, PEAK, total_steps=steps),
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    results = {part: model.evaluate(*both) for part, both in parts.items()}
    print(table([{"part": part, "recordings": len(parts[part][1]), **result} for part, result in results.items()]))
    found = model.predict(parts["test"][0])
    by_speaker = {
        s: [f == everything[i].digit for f, i in zip(found, test) if everything[i].speaker == s] for s in speakers
    }
    print(table([{"speaker": s, "right": f"{sum(hits)} of {len(hits)}"} for s, hits in by_speaker.items() if hits]))
    print(f"{sum(p.size for p in model.parameters()):,} parameters, {seconds / chosen.epochs:.1f} s an epoch")
    if chosen.out is not None:
        taken = [(everything[i], x[i], int(f)) for i, f in zip(test, found)]
        taken.sort(key=lambda each: each[2] == each[0].digit)  # what was misheard first
        draw(taken[:4] + taken[4 :: max(1, len(taken) // 8)][:8], chosen.out / "spoken_digits.png")
        title = f"{results['test']['accuracy']:.1%} of the test part, {split}"
        confusion(y[test], found, list("0123456789"), chosen.out / "spoken_digits_confusion.png", title)
    return results["test"]


if __name__ == "__main__":
    main()
