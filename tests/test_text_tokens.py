"""Vocabularies with special tokens, pairs, source folders and length masks."""

from __future__ import annotations

import copy
import pathlib
import pickle
import sys

import numpy as np
import pytest

from pydl.text import (
    BytePairVocabulary,
    CharVocabulary,
    WordVocabulary,
    length_mask,
    read_pairs,
    read_sources,
    vocabulary_config,
    vocabulary_from_config,
)

TEXTS = ["The cat, the mat.", "a cat's mat", "the (big) dog!"]


def test_words_are_numbered_by_frequency_then_alphabet() -> None:
    vocabulary = WordVocabulary.from_texts(["b a b c", "c d b"])
    assert vocabulary.tokens == ("b", "c", "a", "d")
    assert list(vocabulary) == ["<pad>", "<start>", "<stop>", "<unknown>", "b", "c", "a", "d"]
    assert [vocabulary[i] for i in range(len(vocabulary))] == list(vocabulary)
    assert WordVocabulary.from_texts(["b a b c", "c d b"], min_count=2).tokens == ("b", "c")
    assert WordVocabulary.from_texts(["b a b c", "c d b"], max_size=3).tokens == ("b", "c", "a")


def test_words_are_cut_at_spaces_and_marks_and_joined_again() -> None:
    vocabulary = WordVocabulary.from_texts(TEXTS)
    assert vocabulary.tokenize("The cat's mat, (big)!") == ["The", "cat's", "mat", ",", "(", "big", ")", "!"]
    for text in TEXTS:
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_special_tokens_stand_where_they_are_asked_for() -> None:
    vocabulary = WordVocabulary(["x", "y"])
    assert vocabulary.encode("y x", start=True, stop=True).tolist() == [1, 5, 4, 2]
    assert vocabulary.encode("y z").tolist() == [5, vocabulary.unknown_id]
    assert vocabulary.decode([1, 5, 4, 2, 4, 0]) == "y x"
    assert vocabulary.decode([]) == ""
    assert vocabulary.encode("").dtype == np.int64
    assert "x" in vocabulary
    assert "z" not in vocabulary


def test_characters_come_back_exactly() -> None:
    text = "  two  spaces, é\n<pad>"
    vocabulary = WordVocabulary.from_texts([text], level="character", unknown=False)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    with pytest.raises(ValueError, match=r"'z'.*not among"):
        vocabulary.encode("z")


def test_wrong_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        WordVocabulary([])
    with pytest.raises(ValueError, match="'a' twice"):
        WordVocabulary(["a", "b", "a"])
    with pytest.raises(ValueError, match="special token '<stop>'"):
        WordVocabulary(["<stop>"])
    with pytest.raises(ValueError, match="'word' or 'character'"):
        WordVocabulary(["a"], level="syllable")
    with pytest.raises(TypeError, match="one string"):
        WordVocabulary.from_texts("abc")
    with pytest.raises(ValueError, match="none comes 9 times"):
        WordVocabulary.from_texts(["a b"], min_count=9)
    vocabulary = WordVocabulary(["a"])
    with pytest.raises(IndexError, match="id 5, expected 0 <= id < 5"):
        vocabulary.decode([4, 5])
    with pytest.raises(TypeError, match="float64"):
        vocabulary.decode([0.5])
    with pytest.raises(TypeError, match="expected a string"):
        vocabulary.encode(["a"])  # type: ignore[arg-type]


def test_vocabularies_go_through_their_description_and_copies() -> None:
    for vocabulary in (
        WordVocabulary(["a", "b"], unknown=False),
        WordVocabulary(["a", "b"], level="character"),
        CharVocabulary("abc"),
    ):
        again = vocabulary_from_config(vocabulary_config(vocabulary))
        assert again == vocabulary
        assert hash(again) == hash(vocabulary)
        assert copy.deepcopy(vocabulary) == vocabulary
        assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    assert WordVocabulary(["a", "b"]) != WordVocabulary(["b", "a"])
    assert WordVocabulary(["a", "b"]) != WordVocabulary(["a", "b"], level="character")
    with pytest.raises(ValueError, match="damaged"):
        vocabulary_from_config({"kind": "words", "tokens": "ab", "level": "word", "unknown": True})
    with pytest.raises(ValueError, match="'runes'"):
        vocabulary_from_config({"kind": "runes"})


def test_byte_pairs_without_the_library_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pydl\[text\]"):
        BytePairVocabulary.from_texts(["a"])


def test_byte_pairs_encode_everything_and_give_it_back() -> None:
    pytest.importorskip("tokenizers")
    vocabulary = BytePairVocabulary.from_texts(["the cat sat on the mat"] * 5, size=280)
    assert 260 < len(vocabulary) <= 280
    assert len(vocabulary.encode("the cat")) < 4 < len(vocabulary.encode("zebra"))
    for text in ("the cat sat", "  spaces\n\tand tabs ", "日本 é 🙂", "a <pad> b<stop", "<<unknown>>", ""):
        ids = vocabulary.encode(text, start=True, stop=True)
        assert ids[0] == 1
        assert ids[-1] == 2
        assert not set(ids[1:-1].tolist()) & {0, 1, 2, 3}
        assert vocabulary.decode([*ids, 0, 0]) == text
    again = vocabulary_from_config(vocabulary.config())
    assert again == vocabulary
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    assert vocabulary != BytePairVocabulary.from_texts(["other words here"] * 5, size=280)
    with pytest.raises(ValueError, match="260"):
        BytePairVocabulary.from_texts(["a"], size=100)
    with pytest.raises(ValueError, match="no description"):
        BytePairVocabulary("{}")


def test_pairs_are_read_and_bad_lines_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("\ufeffGo.\tVa !\tnote 1\r\n\r\n  Run! \t Cours !\r\n", encoding="utf-8")
    assert read_pairs(file) == [("Go.", "Va !"), ("Run!", "Cours !")]
    assert read_pairs(file, limit=1) == [("Go.", "Va !")]
    for text, message in (
        ("a\tb\nno tab\n", "pairs.tsv, line 2: no tab in 'no tab'"),
        ("a\tb\n\n \tb\n", "line 3: nothing before the tab"),
        ("a\t\n", "line 1: nothing behind the tab"),
        ("\n \n", "only empty lines"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_pairs(file)
    with pytest.raises(FileNotFoundError):
        read_pairs(tmp_path / "nothing")
    with pytest.raises(ValueError, match="limit 0"):
        read_pairs(file, limit=0)


def test_sources_of_a_folder_by_suffix(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in (
        ("b.c", "int b;"),
        ("sub/a.h", "int a;\n"),
        ("notes.txt", "no"),
        ("x.c", ""),
        (".h.c", "hidden"),
    ):
        (tmp_path / name).write_text(text)
    corpus = read_sources(tmp_path, (".c", ".h"))
    assert corpus.text == "int b;\nint a;\n"
    assert [file.name for file in corpus.files] == ["b.c", "a.h"]
    assert [file.name for file, _ in corpus.skipped] == ["x.c"]
    with pytest.raises(ValueError, match=r"ends in \.py"):
        read_sources(tmp_path, ".py")
    with pytest.raises(ValueError, match="suffixes"):
        read_sources(tmp_path, "py")


def test_length_masks() -> None:
    assert length_mask([2, 0, 3], 4).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    for lengths, steps in (([2, 5], 4), ([-1], None), ([[1]], None), ([0.5], None)):
        with pytest.raises(ValueError, match="length_mask"):
            length_mask(lengths, steps)
