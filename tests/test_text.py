"""pydl.text: vocabulary, readers and the stream of chunks, against plain Python."""

from __future__ import annotations

import copy
import pathlib
import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from pydl.text import CharVocabulary, ChunkStream, read_text, read_texts, split_tail, standard_library


@hypothesis.given(st.text(min_size=1))
def test_encode_is_the_place_in_the_vocabulary_and_decode_undoes_it(text: str) -> None:
    vocabulary = CharVocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert vocabulary.symbols == "".join(sorted(set(text)))
    assert ids.tolist() == [vocabulary.symbols.index(c) for c in text]
    assert vocabulary.decode(ids) == text
    assert vocabulary.encode(text, vocabulary.dtype).tolist() == ids.tolist()


def test_encode_crosses_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydl.text.vocabulary._BLOCK", 7)
    text = "the quick brown fox jumps over the lazy dog, 狐 and 🦊"
    vocabulary = CharVocabulary.from_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 9"):
        vocabulary.encode("the quické")


@pytest.mark.parametrize(("unknown", "name"), [("é", "'é' (U+00E9)"), ("\n", r"'\n' (U+000A)"), ("🦊", "(U+1F98A)")])
def test_unknown_character_is_named(unknown: str, name: str) -> None:
    vocabulary = CharVocabulary("abz")
    with pytest.raises(ValueError) as raised:
        vocabulary.encode("abba" + unknown + "zz")
    assert name in str(raised.value)
    assert "position 4" in str(raised.value)


def test_ids_outside_the_vocabulary() -> None:
    vocabulary = CharVocabulary("abc")
    for wrong in ([0, 3], [-1]):
        with pytest.raises(IndexError, match="expected 0 <= id < 3"):
            vocabulary.decode(wrong)
    with pytest.raises(TypeError, match="integers"):
        vocabulary.decode([0.5])
    assert vocabulary.decode([]) == ""
    assert vocabulary.decode(np.array([[0, 1], [2, 0]], dtype=np.uint8)) == "abca"


def test_vocabulary_is_a_value() -> None:
    vocabulary = CharVocabulary("xyz")
    for other in (pickle.loads(pickle.dumps(vocabulary)), copy.deepcopy(vocabulary), CharVocabulary("xyz")):
        assert other == vocabulary
        assert hash(other) == hash(vocabulary)
        assert other.encode("zyx").tolist() == [2, 1, 0]
    assert vocabulary != CharVocabulary("xzy")
    assert ("y" in vocabulary, "xy" in vocabulary, 1 in vocabulary) == (True, False, False)
    assert (len(vocabulary), list(vocabulary), vocabulary[2]) == (3, ["x", "y", "z"], "z")
    with pytest.raises(ValueError, match="'b' twice"):
        CharVocabulary("abcb")
    with pytest.raises(ValueError, match="no symbols"):
        CharVocabulary.from_text("")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve\n".encode(), "naïve\n"),
        (b"\xef\xbb\xbfmark\n", "mark\n"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
    ],
)
def test_read_text(tmp_path: pathlib.Path, data: bytes, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    assert read_text(path) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"text\0more", "binary .a zero byte at offset 4"),
        ("ä".encode("latin-1"), "not UTF-8 .byte 0xe4 at offset 0"),
        ("abc".encode("utf-16"), "UTF-16"),
        (bytes(range(128, 256)), "binary"),
    ],
)
def test_what_is_no_text(tmp_path: pathlib.Path, data: bytes, message: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        read_text(path)
    assert str(path) in str(raised.value)


def test_what_is_no_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)
    with pytest.raises(ValueError, match="device"):
        read_text("/dev/null")


def test_folder_is_read_in_order(tmp_path: pathlib.Path) -> None:
    files = {"b.txt": b"B", "a/z.txt": b"AZ\n", "a/.hidden": b"no", ".git/x": b"no", "c.bin": b"\0", "d.txt": b""}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    corpus = read_texts([tmp_path])
    assert corpus.text == "AZ\nB"
    assert corpus.files == (tmp_path / "a/z.txt", tmp_path / "b.txt")
    assert [path.name for path, _ in corpus.skipped] == ["c.bin", "d.txt"]
    assert read_texts([tmp_path / "b.txt", tmp_path / "a"]).text == "B\nAZ\n"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no text file"):
        read_texts([tmp_path / "b.txt", tmp_path / "empty"])
    with pytest.raises(ValueError, match="no path"):
        read_texts([])


def test_standard_library_is_the_same_every_time() -> None:
    corpus = standard_library(100_000)
    assert len(corpus.text) == 100_000
    assert corpus.text == standard_library(100_000).text
    assert standard_library(200_000).text.startswith(corpus.text)
    assert "import " in corpus.text


@hypothesis.given(length=st.integers(2, 200), batch=st.integers(1, 7), steps=st.integers(1, 9), drop_last=st.booleans())
def test_chunks_continue_each_other(length: int, batch: int, steps: int, drop_last: bool) -> None:
    row = (length - 1) // batch
    ids = np.arange(length, dtype=np.uint16)
    if row < (steps if drop_last else 1):
        with pytest.raises(ValueError, match=f"got a text of {length} characters"):
            ChunkStream(ids, batch, steps, drop_last=drop_last)
        return
    stream = ChunkStream(ids, batch, steps, drop_last=drop_last)
    chunks = list(stream)
    assert len(chunks) == len(stream)
    inputs = np.concatenate([chunk.inputs for chunk in chunks], axis=1)
    targets = np.concatenate([chunk.targets for chunk in chunks], axis=1)
    width = row // steps * steps if drop_last else row
    assert inputs.tolist() == [list(range(b * row, b * row + width)) for b in range(batch)]
    assert (targets == inputs + 1).all()
    assert all(chunk.inputs.shape == (batch, steps) for chunk in chunks[:-1])
    assert inputs.dtype == targets.dtype == np.int64


def test_stream_goes_on_from_a_saved_position() -> None:
    stream = ChunkStream(np.arange(101), batch_size=5, seq_length=4)
    for _ in range(7):
        next(stream)
    assert stream.state_dict() == {"epoch": 1, "position": 2}
    other = ChunkStream(np.arange(101), batch_size=5, seq_length=4)
    other.load_state_dict(stream.state_dict())
    for ours, theirs in zip(stream, other, strict=True):
        assert (ours.inputs == theirs.inputs).all()
    assert other.state_dict() == {"epoch": 2, "position": 0}
    for wrong in ({"epoch": 0, "position": 5}, {"epoch": -1, "position": 0}):
        with pytest.raises(ValueError, match="another text"):
            other.load_state_dict(wrong)


def test_stream_refuses_what_it_cannot_walk() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        ChunkStream(np.arange(9), 0, 3)
    with pytest.raises(TypeError, match="integers"):
        ChunkStream(np.arange(9.0), 1, 3)
    with pytest.raises(IndexError, match="0 <= chunk < 2"):
        ChunkStream(np.arange(9), 1, 4)[2]


def test_split_tail() -> None:
    ids = np.arange(10)
    assert [part.size for part in split_tail(ids, 0.05)] == [10, 0]
    assert [part.tolist() for part in split_tail(ids, 0.35)] == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9]]
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="split_tail"):
            split_tail(ids, wrong)
