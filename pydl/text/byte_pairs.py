"""BytePairVocabulary: pieces of words, found by merging frequent pairs. The `tokenizers` library does the work."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydl.text.tokens import SPECIALS, TokenVocabulary


def _library() -> Any:
    try:
        import tokenizers  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError("[BytePairVocabulary] needs the tokenizers library: pip install 'pydl[text]'") from error
    return tokenizers


class BytePairVocabulary(TokenVocabulary):
    """A numbering of byte pairs: any text can be encoded, and decoding gives back exactly what was encoded.

    The pieces begin as the 256 bytes; the most frequent pair of neighbours becomes a piece of its own, again and again.
    Sennrich et al., arXiv:1508.07909; on bytes, Radford et al. (2019).

    Args:
        description: what :meth:`to_json` gave, the library's own JSON format. Use :meth:`from_texts` to learn one.

    Raises:
        ImportError: the library is missing; the message names the extra to install.
        ValueError: the text is no description of a vocabulary, or its special tokens have other ids than ours.
    """

    def __init__(self, description: str) -> None:
        library = _library()
        try:
            self._tokenizer = library.Tokenizer.from_str(description)
        except Exception as error:  # the library raises its own kinds
            raise ValueError(f"[BytePairVocabulary] got no description of a vocabulary: {error}") from None
        found = [self._tokenizer.token_to_id(token) for token in SPECIALS]
        if found != list(range(len(SPECIALS))):
            raise ValueError(f"[BytePairVocabulary] got the ids {found} for {SPECIALS}, expected 0 to 3")

    @classmethod
    def from_texts(cls, texts: Iterable[str], *, size: int = 8000, min_count: int = 2) -> BytePairVocabulary:
        """Learn the pieces of texts.

        Args:
            texts: strings.
            size: ids, the 4 special tokens and the 256 bytes among them; default 8000. Few texts give fewer.
            min_count: pairs that come less often are not merged; default 2.

        Raises:
            TypeError: a string in place of several.
            ValueError: a size below 260.
        """
        if isinstance(texts, str):
            raise TypeError("[BytePairVocabulary.from_texts] got one string, expected several: write [text]")
        if size < 256 + len(SPECIALS):
            raise ValueError(f"[BytePairVocabulary.from_texts] got size {size}, expected 260 (the bytes) or more")
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=min_count,
            special_tokens=list(SPECIALS),
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def _ids(self, text: str) -> list[int]:
        # A text that spells a special token is cut by the library there; its characters are what is meant.
        if not any(token in text for token in SPECIALS):
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        ids: list[int] = []
        for part in _apart(text):
            ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode([i for i in ids if i != self.unknown_id], skip_special_tokens=False))

    def to_json(self) -> str:
        """The description that the constructor reads."""
        return str(self._tokenizer.to_str())

    def config(self) -> dict[str, Any]:
        """All that the vocabulary is, as JSON-able values."""
        return {"kind": "byte pairs", "json": json.dumps(json.loads(self.to_json()), sort_keys=True)}

    def __len__(self) -> int:
        """Ids, those of the special tokens and bytes among them."""
        return int(self._tokenizer.get_vocab_size())

    def __getitem__(self, index: int) -> str:
        token = self._tokenizer.id_to_token(index) if index >= 0 else None
        if token is None:
            raise IndexError(f"[BytePairVocabulary] got the id {index}, expected 0 <= id < {len(self)}")
        return str(token)

    def __reduce__(self) -> tuple[type[BytePairVocabulary], tuple[str]]:
        return BytePairVocabulary, (self.to_json(),)

    def __repr__(self) -> str:
        return f"BytePairVocabulary({len(self)} ids)"


def _apart(text: str) -> list[str]:
    """The text cut behind each "<", so that no part spells a special token."""
    parts = text.split("<")
    return [part for part in [part + "<" for part in parts[:-1]] + parts[-1:] if part]
