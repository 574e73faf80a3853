"""Short English sentences -> French: a sequence-to-sequence network over words, with attention, and its BLEU.

The pairs are those of a tab-separated file, by default eng-fra.txt in the folder that PYDL_DATA names. Where there is
none the task is made on the spot: sums and differences in words, "seven plus thirty six" -> "forty three". One source
in twenty is held back; no sentence of the test was trained on, and all its translations in the file are references.

By itself it takes 8 epochs over sentences, with additive attention; and 24 over sums, of which there are fewer, with
a smaller network and dot attention.

    python -m pydl.examples.translation [--data FILE] [--epochs N] [--words 5] [--out FOLDER]
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import pydl
from pydl.callbacks import LambdaCallback
from pydl.examples._shared import check_pictures, goal, options, run, say_where, table, train
from pydl.metrics import bleu_score
from pydl.models import Seq2Seq
from pydl.text import WordVocabulary, read_pairs
from pydl.text.tokens import cut_words

NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
UNITS = NUMBERS.split()
TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
Corpus = dict[str, list[str]]  # a source -> its translations


def in_words(number: int) -> str:
    """-199 to 199 as words."""
    if number < 0:
        return f"minus {in_words(-number)}"
    if number >= 100:
        return "one hundred" + (f" {in_words(number - 100)}" if number > 100 else "")
    if number < 20:
        return UNITS[number]
    return TENS[number // 10] + (f" {UNITS[number % 10]}" if number % 10 else "")


def arithmetic() -> Corpus:
    """All sums and differences of two numbers below 100."""
    return {
        f"{in_words(a)} {sign} {in_words(b)}": [in_words(a + b if sign == "plus" else a - b)]
        for a, b, sign in product(range(100), range(100), ("plus", "minus"))
    }


def sentences(path: str, words: int) -> Corpus:
    """The pairs of a file of at most so many words on both sides, in lower case."""
    found: Corpus = {}
    for source, target in read_pairs(path):
        source, target = source.lower(), target.lower().replace("’", "'")
        if max(len(side.strip(".?!").split()) for side in (source, target)) <= words:
            found.setdefault(source, []).append(target)
    return found


def corpus(path: str | None, words: int) -> tuple[Corpus, str]:
    """What is translated, and the name of it."""
    usual = Path(os.environ.get("PYDL_DATA", ""), "eng-fra.txt")
    if path is None and not ("PYDL_DATA" in os.environ and usual.is_file()):
        print("no --data, and PYDL_DATA names no folder with an eng-fra.txt: arithmetic in words instead of French")
        return arithmetic(), "arithmetic"
    return sentences(path or str(usual), words), Path(path or usual).stem


@contextmanager
def only_known_words(model: Seq2Seq) -> Iterator[None]:
    """Within it the model does not write the unknown token: a rare word's place is better taken by any other."""
    bias: Any = model.output.bias
    before = bias[WordVocabulary.unknown_id].item()
    with pydl.no_grad():
        bias[WordVocabulary.unknown_id] = -1e9
    yield
    with pydl.no_grad():
        bias[WordVocabulary.unknown_id] = before


def translate(model: Seq2Seq, sources: Sequence[str], beam: int = 1) -> list[str]:
    """The model's translations; it writes "j'ai" and "a-t-il" in parts."""
    with only_known_words(model):
        said = model.predict(sources, beam=beam, max_length=30)
    return [text.replace(" ' ", "'").replace(" - ", "-") for text in said]


def report(model: Seq2Seq, sources: list[str], held_out: Corpus) -> dict[str, float]:
    """BLEU and the share of exact translations, greedy and by beam."""
    results = {}
    references = [held_out[source] for source in sources]
    for name, beam in (("greedy", 1), ("beam of 4", 4)):
        found = translate(model, sources, beam)
        exact = [cut_words(a) in map(cut_words, b) for a, b in zip(found, references)]
        results[f"BLEU, {name}"], results[f"exact, {name}"] = bleu_score(references, found), float(np.mean(exact))
    some = zip(sources[:12], found, references)
    print(table([{"source": a, "translation": b, "one of the references": c[0]} for a, b, c in some]))
    print(f"{len(sources):,} sentences not trained on: " + ", ".join(f"{k} {v:.1%}" for k, v in results.items()))
    return results


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train and print; BLEU and exact shares of the held-out sentences."""
    chosen = options(
        __doc__, None, arguments, data="lines of source, tab, target; default: PYDL_DATA/eng-fra.txt, or arithmetic",
        words=5, hidden=None, attention=("usual", "additive", "dot"),
    )  # fmt: skip
    check_pictures(chosen)
    found, name = corpus(chosen.data, chosen.words)
    sums = chosen.data is None and name == "arithmetic"
    chosen.hidden = chosen.hidden or (128 if sums else 256)
    chosen.epochs = chosen.epochs or (24 if sums else 8)
    if chosen.attention == "usual":
        chosen.attention = "dot" if sums else "additive"
    every = list(found)
    if len(every) < 20:
        raise SystemExit(f"{len(every)} sentences of at most {chosen.words} words, expected 20: more lines or --words")
    sources = [every[i] for i in np.random.default_rng(chosen.seed).permutation(len(every))]
    test = sources[: max(1, min(2000, len(sources) // 20))]
    pairs = [(source, target.replace("'", "' ")) for source in sources[len(test) :] for target in found[source]]
    x, y = [source for source, _ in pairs], [target for _, target in pairs]
    model = Seq2Seq(
        WordVocabulary.from_texts(x, min_count=3), WordVocabulary.from_texts(y, min_count=3),
        attention=chosen.attention, embedding_size=chosen.hidden // 2, hidden_size=chosen.hidden,
        dropout=0.0 if sums else 0.3,  # sums have no exceptions to be learned by heart
    )  # fmt: skip
    print(f"{name}: {len(x):,} pairs, {model.input.count:,} and {model.target_size:,} different words", flush=True)
    shown = test[:3]
    print("epoch  loss   " + "  ".join(f"{source:32.32}" for source in shown), flush=True)

    def sample(epoch: int, logs: Any) -> None:
        said = "  ".join(f"{each:32.32}" for each in translate(model, shown))
        print(f"{epoch + 1:5}  {logs['loss']:5.3f}  {said}", flush=True)

    show = LambdaCallback(on_epoch_end=sample)
    train(model, x, y, *((32, 5e-3) if sums else (64, 4e-3)), chosen, verbose=0, callbacks=[show])
    results = report(model, test, found)
    if sums:
        goal(f"exact on {len(test):,} sums and differences not trained on", results["exact, greedy"], 0.95)
    if chosen.out is not None:
        longest = sorted(test, key=lambda source: -len(source.split()))[:4]
        with only_known_words(model):
            answers, looks = model.predict(longest, max_length=30, return_attention=True)
        read = [cut_words(source) for source in longest]
        pydl.plots.attention(
            looks, read, [cut_words(answer) for answer in answers], chosen.out / "translation-attention.png",
            "Where it looked as it wrote each word",
        )  # fmt: skip
    say_where(chosen, "translation-attention.png")
    return results


if __name__ == "__main__":
    run(main)
