"""Whole models: a class each, with the vocabulary or the labels that belong to it: a saved file is all one needs."""

from pydl.models.char_lm import CharLM, Generation

__all__ = ["CharLM", "Generation"]
