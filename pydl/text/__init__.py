"""Text in: vocabularies, readers of files, folders and pairs, simple features, the stream of chunks to train on.

Everything here is NumPy and the standard library; no tensor is made before a model wants one.
"""

from pydl.text.byte_pairs import BytePairVocabulary
from pydl.text.features import text_features
from pydl.text.pairs import read_pairs, read_sources
from pydl.text.reading import Corpus, read_text, read_texts, standard_library
from pydl.text.stream import ChunkStream, split_tail
from pydl.text.tokens import TokenVocabulary, WordVocabulary, length_mask, vocabulary_config, vocabulary_from_config
from pydl.text.vocabulary import CharVocabulary

__all__ = [
    "BytePairVocabulary",
    "CharVocabulary",
    "ChunkStream",
    "Corpus",
    "TokenVocabulary",
    "WordVocabulary",
    "length_mask",
    "read_pairs",
    "read_sources",
    "read_text",
    "read_texts",
    "split_tail",
    "standard_library",
    "text_features",
    "vocabulary_config",
    "vocabulary_from_config",
]
