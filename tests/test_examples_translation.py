"""The translation example: its arithmetic is right, its file is read, and the network learns to translate."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

from pydl.examples import translation

ONES = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
ONES |= {"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16}
ONES |= {"seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
ONES |= {"sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}


def number(words: str) -> int:
    if words.startswith("minus "):
        return -number(words[6:])
    if words.startswith("one hundred"):
        return 100 + (number(words[12:]) if words[12:] else 0)
    return sum(ONES[word] for word in words.split())


def test_numbers_in_words() -> None:
    assert [number(translation.in_words(n)) for n in range(-199, 200)] == list(range(-199, 200))
    assert len({translation.in_words(n) for n in range(-199, 200)}) == 399
    assert translation.in_words(-143) == "minus one hundred forty three"


def test_arithmetic_is_right() -> None:
    made = translation.arithmetic()
    assert len(made) == 20_000
    for source, (answer,) in list(made.items())[::37]:
        sign = " plus " if " plus " in source else " minus "
        a, b = (number(part) for part in source.split(sign))
        assert number(answer) == (a + b if sign == " plus " else a - b)


def test_sentences_are_joined_by_their_source(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["Go.\tVa !", "Go.\tAllez !", "I know.\tJ’ai compris.", "This is far too long.\tC'est trop long."]
    (tmp_path / "eng-fra.txt").write_text("\n".join(lines), encoding="utf-8")
    expected = {"go.": ["va !", "allez !"], "i know.": ["j'ai compris."]}
    assert translation.sentences(str(tmp_path / "eng-fra.txt"), 4) == expected
    monkeypatch.setenv("PYDL_DATA", str(tmp_path))
    assert translation.corpus(None, 4) == (expected, "eng-fra")
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("PYDL_DATA")
    assert translation.corpus(None, 4)[1] == "arithmetic"
    assert capsys.readouterr().out.count("\n") == 1


def test_too_few_sentences_are_a_clear_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "few.tsv").write_text("one\tun\n" * 30 + "two words\tdeux mots\n")
    with pytest.raises(SystemExit, match=r"^1 sentences of at most 1 words, expected 20: more lines or --words"):
        translation.main(["--data", str(tmp_path / "few.tsv"), "--words", "1"])


def test_a_little_language_is_learned(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    words = {"cat": "chat", "dog": "chien", "eats": "mange", "sees": "voit", "the": "le", "isn't": "n'est"}
    names = list(words)
    chosen = {tuple(random.choice(names, random.integers(2, 5))) for _ in range(900)}
    lines = [" ".join(some) + "\t" + " ".join(words[w] for w in some[::-1]) for some in sorted(chosen)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["--data", str(tmp_path / "pairs.txt"), "--epochs", "25", "--hidden", "48", "--out", str(tmp_path)]
    results = translation.main(arguments)
    assert results["exact, greedy"] > 0.6
    assert results["BLEU, greedy"] > 0.8
    assert (tmp_path / "translation-attention.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "n'est" in out
    assert "n ' est" not in out
    assert [line.split()[0] for line in out.splitlines()[2:27]] == [str(epoch) for epoch in range(1, 26)]


@pytest.mark.slow
def test_arithmetic_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYDL_DATA", raising=False)
    assert translation.main([])["exact, greedy"] >= 0.99


@pytest.mark.slow
@pytest.mark.skipif("PYDL_DATA" not in os.environ, reason="PYDL_DATA names the folder of eng-fra.txt")
def test_french_is_learned() -> None:
    assert translation.main([])["BLEU, beam of 4"] > 0.35
