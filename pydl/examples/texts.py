"""A character model of literature, LaTeX, C or Python: trained, sampled on the way from noise to text, looked into.

--kind python reads the standard library of this Python, or the .py files of --data; c the .c and .h files of a folder;
literature and latex read tinyshakespeare.txt and stacks-algebra.tex in the folder that PYDL_DATA names, or any file.
With --out the model, the samples as text and a page to look inside are written there; `pydl charlm` has all of this
with more options, in runs that go on after a crash.

    python -m pydl.examples.texts [--kind python|literature|latex|c] [--data PATH] [--epochs 8] [--out FOLDER]
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pydl._atomic import atomic_write
from pydl.examples._shared import options, run, say_where, table
from pydl.models import CharLM, rank_units, record_states, score_units
from pydl.models.inspection_page import write_inspection_page
from pydl.text import read_sources, read_text, standard_library, text_features
from pydl.train.char_lm import CharLMTrainer, TrainingObserver, TrainingOptions, evaluate, samples_text

SUFFIXES = {"python": (".py",), "c": (".c", ".h"), "literature": (".txt",), "latex": (".tex",)}
FILES = {"literature": "tinyshakespeare.txt", "latex": "stacks-algebra.tex"}
POINTS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)  # iterations after which a sample is taken, and the last
HELD_BACK = 0.05


def read(kind: str, path: str | None, characters: int = 1_000_000) -> str:
    """So many characters of a kind, from a file, a folder, or where they are to be had.

    Of a folder that has more, files are drawn: its first ones by name may be all of a sort.
    """
    if path is None and kind in FILES and "PYDL_DATA" in os.environ:
        path = str(Path(os.environ["PYDL_DATA"], FILES[kind]))
    if path is None and kind != "python":
        raise SystemExit(f"no {kind} text: give --data, a file or a folder of {' and '.join(SUFFIXES[kind])} files")
    if path is None:
        return standard_library(characters).text
    if not Path(path).is_dir():
        return read_text(path)[:characters]
    found = read_sources(path, SUFFIXES[kind])
    if len(found.text) <= characters:
        return found.text
    text = ""
    for i in np.random.default_rng(0).permutation(len(found.files)):
        text += read_text(found.files[i]).rstrip("\n") + "\n"
        if len(text) >= characters:
            break
    return text[:characters]


class Progress(TrainingObserver):
    """Takes a sample at fixed points and prints it as a row of a table."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []

    def on_step(self, trainer: CharLMTrainer, loss: float) -> None:
        if trainer.iteration not in POINTS and not trainer.finished:
            return
        text = trainer.model.generate(length=300, temperature=0.7, seed=trainer.options.seed)
        if not self.samples:
            print("iteration  epoch  bits  sample")
        shown = text.strip().replace("\n", "⏎")[:84]
        print(f"{trainer.iteration:9,}  {trainer.epoch:5.2f}  {loss / math.log(2.0):4.2f}  {shown}", flush=True)
        self.samples.append({"iteration": trainer.iteration, "epoch": trainer.epoch, "text": text})


def whole_lines(text: str, begin: int) -> str:
    """The text from a place on, without what is left there of a line and a quotation that began before."""
    features = text_features(text)
    between = np.flatnonzero((features["line break"] == 1) & (features["in quotes"] == 0))
    after = between[(between >= begin - 1) & (between < len(text) - 1)]
    return text[int(after[0]) + 1 if len(after) else begin :]


def best_units(model: CharLM, text: str) -> list[dict[str, Any]]:
    """For each feature of the text the unit that follows it best: its layer, its number, and the correlation."""
    scores = score_units(record_states(model, text).h, text_features(text))
    rows = []
    for feature, each in scores.items():
        layer, unit = rank_units(each)[0]
        if each[layer, unit]:
            rows.append({"feature": feature, "layer": layer + 1, "unit": unit, "correlation": float(each[layer, unit])})
    return sorted(rows, key=lambda row: -abs(row["correlation"]))


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, sample, inspect; bits per character of the held-back end, the samples, and the table of units."""
    chosen = options(
        __doc__, 8, arguments, data="a text, or a folder of them", kind=("python", "literature", "latex", "c"),
        characters=1_000_000, hidden=128,
    )  # fmt: skip
    text = read(chosen.kind, chosen.data, chosen.characters)
    print(f"{chosen.kind}: {len(text):,} characters, {len(set(text))} different ones")
    progress = Progress()
    settings = TrainingOptions(
        hidden=chosen.hidden, epochs=chosen.epochs, seed=chosen.seed, lr=3e-3, lr_decay=0.85, val_frac=HELD_BACK
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = CharLMTrainer(text, folder, settings, observer=progress)
        trainer.fit()
    model, end = trainer.model, whole_lines(text, len(text) - int(len(text) * HELD_BACK))
    bits = evaluate(model, trainer.validation) / math.log(2.0)
    units = best_units(model, end[:20_000])
    print(f"\n{progress.samples[-1]['text'].strip()}\n\n{table(units)}")
    print(f"\n{bits:.3f} bits a character of the held-back end")
    if chosen.out is not None:
        model.save(chosen.out / f"{chosen.kind}.safetensors")
        with atomic_write(chosen.out / f"{chosen.kind}-samples.txt", "w") as file:
            file.write(samples_text(progress.samples))
        page = chosen.out / f"{chosen.kind}.html"
        write_inspection_page(page, model, end, title=f"{chosen.kind}: the end, held back", samples=progress.samples)
        print(f"open {page} in a browser to look inside")
    say_where(chosen, *(f"{chosen.kind}{ending}" for ending in (".html", "-samples.txt", ".safetensors")))
    return {"bits": bits, "samples": progress.samples, "units": units}


if __name__ == "__main__":
    run(main)
