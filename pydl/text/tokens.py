"""WordVocabulary: words or characters, numbered, with the special tokens that models of sequences need."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pydl.text.vocabulary import CharVocabulary

PAD, START, STOP, UNKNOWN = "<pad>", "<start>", "<stop>", "<unknown>"
SPECIALS = (PAD, START, STOP, UNKNOWN)

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%…")
_NO_SPACE_AFTER = frozenset("([{")


class TokenVocabulary:
    """What vocabularies with special tokens share: ``pad_id`` 0, ``start_id`` 1, ``stop_id`` 2, ``unknown_id`` 3.

    They have ``encode``, ``decode``, ``len`` and ``==`` as :class:`CharVocabulary` has them, and ``config``, from which
    ``vocabulary_from_config`` makes the same vocabulary again.
    """

    pad_id, start_id, stop_id, unknown_id = range(4)

    def __len__(self) -> int:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """All that the vocabulary is, as JSON-able values."""
        raise NotImplementedError

    def _ids(self, text: str) -> list[int]:
        raise NotImplementedError

    def _text(self, ids: list[int]) -> str:
        raise NotImplementedError

    def encode(self, text: str, *, start: bool = False, stop: bool = False) -> npt.NDArray[np.int64]:
        """The ids of a text's tokens.

        Args:
            text: what to encode.
            start, stop: put the start token before it, the stop token behind it; default False.

        Returns:
            int64, shape (T,).

        Raises:
            TypeError: no string.
            ValueError: a token that is not known, where the vocabulary has no unknown token.
        """
        if not isinstance(text, str):
            raise TypeError(f"[{type(self).__name__}.encode] got a {type(text).__name__}, expected a string")
        ids = self._ids(text)
        return np.array([self.start_id] * start + ids + [self.stop_id] * stop, dtype=np.int64)

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of ids (T,), up to the first stop token; padding and start tokens are left out.

        Raises:
            TypeError: the ids are not integers.
            IndexError: an id is negative or not below the vocabulary's size.
        """
        array = np.asarray(ids).reshape(-1)
        if array.size == 0:
            return ""
        if array.dtype.kind not in "iu":
            raise TypeError(f"[{type(self).__name__}.decode] got ids of dtype {array.dtype}, expected integers")
        if int(array.min()) < 0 or int(array.max()) >= len(self):
            outside = array[(array < 0) | (array >= len(self))][0]
            raise IndexError(f"[{type(self).__name__}.decode] got the id {outside}, expected 0 <= id < {len(self)}")
        stops = np.flatnonzero(array == self.stop_id)
        if stops.size:
            array = array[: stops[0]]
        return self._text([int(i) for i in array if i not in (self.pad_id, self.start_id)])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.config() == self.config()

    def __hash__(self) -> int:
        return hash((type(self), len(self)))


class WordVocabulary(TokenVocabulary):
    """A numbering of words, or of characters, behind the special tokens: token ``tokens[i]`` has the id ``i + 4``.

    At the level ``"word"`` a text is cut into words and single punctuation marks, and decoding puts one space between
    words and none before marks such as the comma. At the level ``"character"`` every character is a token, and
    decoding gives back exactly what was encoded.

    Args:
        tokens: each once, in the order of their ids.
        level: ``"word"`` (default) or ``"character"``.
        unknown: whether tokens that are not known become the unknown token. False makes them an error; default True.

    Raises:
        ValueError: no tokens, one twice, a special token among them, an unknown level.

    Example:
        >>> vocabulary = WordVocabulary.from_texts(["the cat, the mat", "a cat"])
        >>> vocabulary.tokens
        ('cat', 'the', ',', 'a', 'mat')
        >>> vocabulary.encode("the dog", start=True, stop=True)
        array([1, 5, 3, 2])
        >>> vocabulary.decode([5, 4, 6, 7, 8, 2, 0, 0])
        'the cat, a mat'
        >>> WordVocabulary.from_texts(["abc"], level="character", unknown=False).decode([4, 6])
        'ac'
    """

    def __init__(self, tokens: Iterable[str], *, level: str = "word", unknown: bool = True) -> None:
        if level not in ("word", "character"):
            raise ValueError(f"[WordVocabulary] got level {level!r}, expected 'word' or 'character'")
        self.tokens = tuple(tokens)
        self.level = level
        self.unknown = bool(unknown)
        if not self.tokens:
            raise ValueError("[WordVocabulary] got no tokens, expected at least one; see from_texts")
        self._id_of = {token: i for i, token in enumerate(self.tokens, len(SPECIALS))}
        if len(self._id_of) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"[WordVocabulary] got the token {twice!r} twice, expected each once; see from_texts")
        for token in SPECIALS:
            if token in self._id_of:
                raise ValueError(f"[WordVocabulary] got the special token {token!r} among the tokens, which has an id")

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        *,
        level: str = "word",
        min_count: int = 1,
        max_size: int | None = None,
        unknown: bool = True,
    ) -> WordVocabulary:
        """The vocabulary of texts: the most frequent token first, equally frequent ones by alphabet.

        Args:
            texts: strings. One string alone is an error: its characters would be taken for texts.
            level, unknown: as above.
            min_count: tokens that come less often are left out; default 1.
            max_size: keep so many tokens, the most frequent ones, special tokens not counted; default all.

        Raises:
            TypeError: a string in place of several.
            ValueError: nothing is left.
        """
        if isinstance(texts, str):
            raise TypeError("[WordVocabulary.from_texts] got one string, expected several: write [text]")
        if min_count < 1 or (max_size is not None and max_size < 1):
            raise ValueError(
                f"[WordVocabulary.from_texts] got min_count {min_count}, max_size {max_size}, expected 1 or more"
            )
        cut = _cutter(level)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cut(text))
        kept = sorted((t for t, n in counts.items() if n >= min_count), key=lambda t: (-counts[t], t))[:max_size]
        if not kept:
            raise ValueError(
                f"[WordVocabulary.from_texts] {len(counts)} different tokens, and none comes {min_count} times;"
                " give more text or a smaller min_count"
            )
        return cls(kept, level=level, unknown=unknown)

    def tokenize(self, text: str) -> list[str]:
        """The text's tokens, known or not."""
        return list(_cutter(self.level)(text))

    def _ids(self, text: str) -> list[int]:
        if self.unknown:
            return [self._id_of.get(token, self.unknown_id) for token in self.tokenize(text)]
        try:
            return [self._id_of[token] for token in self.tokenize(text)]
        except KeyError as error:
            raise ValueError(
                f"[WordVocabulary.encode] got the token {error.args[0]!r} in {_short(text)}, which is not among the"
                f" {len(self.tokens)} known ones; make the vocabulary with unknown=True, or of all texts"
            ) from None

    def _text(self, ids: list[int]) -> str:
        words = [self[i] for i in ids]
        if self.level == "character":
            return "".join(words)
        parts: list[str] = []
        for word in words:
            if parts and word not in _NO_SPACE_BEFORE and parts[-1] not in _NO_SPACE_AFTER:
                parts.append(" ")
            parts.append(word)
        return "".join(parts)

    def config(self) -> dict[str, Any]:
        """All that the vocabulary is, as JSON-able values."""
        return {"kind": "words", "tokens": list(self.tokens), "level": self.level, "unknown": self.unknown}

    def __contains__(self, token: object) -> bool:
        return token in self._id_of

    def __len__(self) -> int:
        """Ids, those of the special tokens among them."""
        return len(SPECIALS) + len(self.tokens)

    def __iter__(self) -> Iterator[str]:
        yield from SPECIALS
        yield from self.tokens

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"[WordVocabulary] got the id {index}, expected 0 <= id < {len(self)}")
        return SPECIALS[index] if index < len(SPECIALS) else self.tokens[index - len(SPECIALS)]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.tokens[:5])) + (", ..." if len(self.tokens) > 5 else "")
        return f"WordVocabulary({len(self.tokens)} {self.level}s: {shown})"


def cut_words(text: str) -> list[str]:
    """Words and single punctuation marks of a text, in order.

    >>> cut_words("It's late, isn't it?")
    ["It's", 'late', ',', "isn't", 'it', '?']
    """
    return _WORD.findall(text)


def _cutter(level: str) -> Any:
    if level not in ("word", "character"):
        raise ValueError(f"[WordVocabulary] got level {level!r}, expected 'word' or 'character'")
    return cut_words if level == "word" else iter


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def vocabulary_config(vocabulary: TokenVocabulary | CharVocabulary) -> dict[str, Any]:
    """All that any vocabulary is, as JSON-able values."""
    if isinstance(vocabulary, CharVocabulary):
        return {"kind": "characters", "symbols": vocabulary.symbols}
    return vocabulary.config()


def vocabulary_from_config(config: Mapping[str, Any]) -> TokenVocabulary | CharVocabulary:
    """The vocabulary that :func:`vocabulary_config` described.

    Raises:
        ValueError: the description is of none.

    >>> words = WordVocabulary(["a", "b"])
    >>> vocabulary_from_config(words.config()) == words
    True
    """
    kind = config.get("kind")
    try:
        if kind == "words":
            return WordVocabulary(_strings(config["tokens"]), level=config["level"], unknown=config["unknown"])
        if kind == "characters":
            return CharVocabulary(config["symbols"])
        if kind == "byte pairs":
            from pydl.text.byte_pairs import BytePairVocabulary

            return BytePairVocabulary(config["json"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"[vocabulary_from_config] the description is damaged: {error!r}") from None
    raise ValueError(f"[vocabulary_from_config] got the kind {kind!r}, expected 'words', 'characters' or 'byte pairs'")


def length_mask(lengths: npt.ArrayLike, steps: int | None = None) -> npt.NDArray[np.bool_]:
    """Which steps of padded sequences count: (N,) lengths -> (N, T) bool; T is `steps`, default the longest length.

    Raises:
        ValueError: the lengths are no integers of shape (N,), or one is negative or above `steps`.

    >>> length_mask([2, 0, 3]).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    """
    array = np.asarray(lengths)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
        raise ValueError(f"[length_mask] got lengths {array.dtype} {array.shape}, expected integers of shape (N,)")
    longest = int(array.max()) if steps is None else steps
    if int(array.min()) < 0 or int(array.max()) > longest:
        raise ValueError(f"[length_mask] got lengths {array.min()} to {array.max()}, expected 0 to {longest}")
    return np.arange(longest) < array[:, None]


def _strings(tokens: Sequence[Any]) -> list[str]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TypeError("tokens are no list of strings")
    return tokens
