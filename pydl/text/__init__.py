"""Text in: a vocabulary of characters, readers of files and folders, simple features, the stream of chunks to train on.

Everything here is NumPy and the standard library; no tensor is made before a model wants one.
"""

from pydl.text.features import text_features
from pydl.text.reading import Corpus, read_text, read_texts, standard_library
from pydl.text.stream import ChunkStream, split_tail
from pydl.text.vocabulary import CharVocabulary

__all__ = [
    "CharVocabulary",
    "ChunkStream",
    "Corpus",
    "read_text",
    "read_texts",
    "split_tail",
    "standard_library",
    "text_features",
]
