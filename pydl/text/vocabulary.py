"""CharVocabulary: the characters of a text, numbered. One table look-up each way, nothing per character in Python."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 20  # characters encoded at a time: the UTF-32 copy stays small however long the text
_CODE = np.dtype("<u4")


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=_CODE)


class CharVocabulary:
    """A numbering of characters: character ``symbols[i]`` has the id ``i``.

    Args:
        symbols: the characters, each once, in the order of their ids.

    Raises:
        ValueError: `symbols` is empty or has a character twice.

    Example:
        >>> vocabulary = CharVocabulary.from_text("hello")
        >>> vocabulary.symbols
        'ehlo'
        >>> vocabulary.encode("hell")
        array([1, 0, 2, 2])
        >>> vocabulary.decode([0, 2, 2, 3])
        'ello'
    """

    __slots__ = ("_code_of_id", "_id_of_code", "symbols")

    def __init__(self, symbols: str) -> None:
        if not symbols:
            raise ValueError("[CharVocabulary] got no symbols, expected at least one character")
        codes = _codes(symbols)
        if np.unique(codes).size != codes.size:
            twice = next(c for i, c in enumerate(symbols) if c in symbols[:i])
            raise ValueError(f"[CharVocabulary] got the character {twice!r} twice, expected each once; see from_text")
        self.symbols = symbols
        self._code_of_id = codes
        self._id_of_code = np.full(int(codes.max()) + 1, -1, dtype=np.int32)
        self._id_of_code[codes] = np.arange(codes.size, dtype=np.int32)

    @classmethod
    def from_text(cls, text: str) -> CharVocabulary:
        """The vocabulary of all characters that occur in `text`, ordered by code point."""
        return cls("".join(sorted(set(text))))

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest dtype that holds every id: what to keep a long encoded text in."""
        return np.min_scalar_type(len(self) - 1)

    def encode(self, text: str, dtype: npt.DTypeLike = np.int64) -> npt.NDArray[np.integer]:
        """The ids of the characters of `text`, an array of shape ``(len(text),)``.

        Raises:
            ValueError: a character of `text` is not in the vocabulary; the message names it and its place.
        """
        ids = np.empty(len(text), dtype=dtype)
        for begin in range(0, len(text), _BLOCK):
            block = text[begin : begin + _BLOCK]
            codes = _codes(block)
            found = self._id_of_code[np.minimum(codes, self._id_of_code.size - 1)]
            unknown = (found < 0) | (codes >= self._id_of_code.size)
            if unknown.any():
                self._raise_unknown(text, begin + int(unknown.argmax()))
            ids[begin : begin + len(block)] = found
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text whose characters have these ids; any shape, read in row order.

        Raises:
            TypeError: the ids are not integers.
            IndexError: an id is negative or not below the vocabulary's size.
        """
        array = np.asarray(ids)
        if array.size == 0:
            return ""
        if array.dtype.kind not in "iu":
            raise TypeError(f"[CharVocabulary.decode] got ids of dtype {array.dtype}, expected integers")
        flat = array.reshape(-1)
        if int(flat.min()) < 0 or int(flat.max()) >= len(self):
            outside = flat[(flat < 0) | (flat >= len(self))][0]
            raise IndexError(f"[CharVocabulary.decode] got the id {outside}, expected 0 <= id < {len(self)}")
        return self._code_of_id[flat].tobytes().decode("utf-32-le", "surrogatepass")

    def _raise_unknown(self, text: str, position: int) -> None:
        character = text[position]
        raise ValueError(
            f"[CharVocabulary.encode] got the character {character!r} (U+{ord(character):04X}) at position {position},"
            f" which is not among the vocabulary's {len(self)} characters; use characters of the training text"
        )

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and len(character) == 1 and character in self.symbols

    def __len__(self) -> int:
        return len(self.symbols)

    def __iter__(self) -> Iterator[str]:
        return iter(self.symbols)

    def __getitem__(self, index: int) -> str:
        return self.symbols[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharVocabulary) and other.symbols == self.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def __reduce__(self) -> tuple[type[CharVocabulary], tuple[str]]:
        return CharVocabulary, (self.symbols,)

    def __repr__(self) -> str:
        shown = self.symbols if len(self) <= 40 else self.symbols[:37] + "..."
        return f"CharVocabulary({len(self)} characters: {shown!r})"
