"""Whole models: a class each, with the vocabulary or the labels that belong to it: a saved file is all one needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydl.models.captioner import Captioner
    from pydl.models.char_lm import CharLM, Generation
    from pydl.models.classifiers import SequenceClassifier, SequenceTagger
    from pydl.models.drawing import Draw
    from pydl.models.glimpses import Glimpses, RecurrentAttention
    from pydl.models.inspection import StateRecord, UnitScores, iterate_states, rank_units, record_states, score_units
    from pydl.models.language_model import LanguageModel
    from pydl.models.recurrent_gradients import gradient_flow
    from pydl.models.sampling import Sampler
    from pydl.models.seq2seq import Seq2Seq
    from pydl.models.sequence import SequenceModel
    from pydl.models.writer import SequenceWriter

__all__ = [
    "Captioner",
    "CharLM",
    "Draw",
    "Generation",
    "Glimpses",
    "LanguageModel",
    "RecurrentAttention",
    "Sampler",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceModel",
    "SequenceTagger",
    "SequenceWriter",
    "StateRecord",
    "UnitScores",
    "gradient_flow",
    "iterate_states",
    "rank_units",
    "record_states",
    "score_units",
]

_MODULES = {
    "Captioner": "captioner",
    "CharLM": "char_lm",
    "Draw": "drawing",
    "Generation": "char_lm",
    "Glimpses": "glimpses",
    "LanguageModel": "language_model",
    "RecurrentAttention": "glimpses",
    "Sampler": "sampling",
    "Seq2Seq": "seq2seq",
    "SequenceClassifier": "classifiers",
    "SequenceModel": "sequence",
    "SequenceTagger": "classifiers",
    "SequenceWriter": "writer",
    "StateRecord": "inspection",
    "UnitScores": "inspection",
    "gradient_flow": "recurrent_gradients",
    "iterate_states": "inspection",
    "rank_units": "inspection",
    "record_states": "inspection",
    "score_units": "inspection",
}


def __getattr__(name: str) -> Any:
    """What a module has is imported when it is first used."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"pydl.models.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'pydl.models' has no attribute {name!r}")
