"""Whole models: a class each, with the vocabulary or the labels that belong to it: a saved file is all one needs."""

from pydl.models.char_lm import CharLM, Generation
from pydl.models.inspection import StateRecord, UnitScores, iterate_states, rank_units, record_states, score_units

__all__ = [
    "CharLM",
    "Generation",
    "StateRecord",
    "UnitScores",
    "iterate_states",
    "rank_units",
    "record_states",
    "score_units",
]
