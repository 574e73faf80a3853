"""SavedModel: one safetensors file with the weights of a model and all that its constructor was given."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydl import nn
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text.tokens import TokenVocabulary, vocabulary_config, vocabulary_from_config
from pydl.text.vocabulary import CharVocabulary

if TYPE_CHECKING:
    from pydl import Tensor

__all__ = ["SavedModel", "Vocabulary", "read_config"]

Vocabulary = TokenVocabulary | CharVocabulary
Model = TypeVar("Model", bound="SavedModel")


class SavedModel(nn.Module):
    """A module that goes through a file. A subclass has ``_config()``, its constructor's arguments.

    Attributes:
        _counts: integers among these arguments that are the size of no weight, such as a number of steps.
        _free: arguments that `load_weights` need not find the same, because no weight depends on them.
    """

    _counts: tuple[str, ...] = ()
    _free: tuple[str, ...] = ("dropout",)

    def _config(self) -> dict[str, Any]:
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights, sizes and vocabularies as one safetensors file, atomically."""
        config = {
            name: {"vocabulary": vocabulary_config(value)} if isinstance(value, Vocabulary) else value
            for name, value in self._config().items()
        }
        save_file(self.state_dict(), path, {"format": self._format(), "model": json.dumps(config)})

    @classmethod
    def _format(cls) -> str:
        return f"pydl.{cls.__name__}.1"

    @classmethod
    def load(cls: type[Model], path: str | os.PathLike[str]) -> Model:
        """The model in a file that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, or of another kind of model.
        """
        return cls._load(path, {})

    @classmethod
    def _load(cls: type[Model], path: str | os.PathLike[str], given: Mapping[str, Any]) -> Model:
        """`load` with arguments that no file can have."""
        found, weights = {**read_config(cls, path), **given}, load_file(path)
        try:
            arguments = inspect.signature(cls).bind(**found)
            arguments.apply_defaults()
            found = arguments.arguments
            cls._check(found, weights)
            model = cls(**found)
            model.load_state_dict(weights)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"[{cls.__name__}.load] {os.fspath(path)}: the file is damaged: {error!s}") from None
        return model

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Takes the weights of a file that `save` wrote into this model.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged, or its model has another vocabulary or other sizes; nothing was changed.
        """
        found, own = read_config(type(self), path), self._config()
        for name, value in own.items():
            other = found.get(name)
            if other == value or name in self._free:
                continue
            what = "another vocabulary" if isinstance(value, Vocabulary) else repr(other)
            raise ValueError(
                f"[{type(self).__name__}.load_weights] {os.fspath(path)}: its model has {what} as {name}, expected"
                f" {value!r}; use {type(self).__name__}.load, which takes all of it from the file"
            )
        self.load_state_dict(load_file(path))

    @classmethod
    def _shapes(cls, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights, as the arguments have them, that bound the size of all the others."""
        return {}

    @classmethod
    def _check(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Raise ValueError where an argument does not fit the weights, before a file that lies makes anything large."""
        sizes = {size for weight in weights.values() for size in weight.shape}
        layers = {int(name.rpartition("_l")[2]) for name in weights if re.fullmatch(r"\w+\.weight_hh_l\d{1,6}", name)}
        for name, value in config.items():
            size = len(value) if isinstance(value, Vocabulary) else value
            if isinstance(size, float) and name not in cls._free:
                raise ValueError(f"{name} is {size}, expected an integer")
            if name == "num_layers" and size != len(layers):
                raise ValueError(f"num_layers is {_short(size)}, but there are weights of {len(layers)}")
            if name not in ("num_layers", *cls._counts, *cls._free) and type(size) is int and size not in sizes:
                raise ValueError(f"{name} is {_short(size)}, which is the size of no weight")
        check_shapes(weights, cls._shapes(config))


def check_shapes(weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError where one of the weights is missing or has another shape."""
    for name, shape in shapes.items():
        if name not in weights:
            raise ValueError(f"there is no {name}, expected one of shape {shape}")
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(weights[name].shape)}, expected {shape}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def read_config(cls: type[SavedModel], path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of the model in a file."""
    metadata = load_metadata(path)
    if metadata.get("format") != cls._format():
        found = f"the format {metadata['format']!r}" if "format" in metadata else "a file of another kind"
        other = re.fullmatch(r"pydl\.([A-Z]\w+)\.1", metadata.get("format", ""))
        way = f"; it is read by {other[1]}.load" if other else ""
        raise ValueError(f"[{cls.__name__}.load] {os.fspath(path)}: got {found}, expected {cls._format()}{way}")
    try:
        config = json.loads(metadata["model"])
        return {
            name: vocabulary_from_config(value["vocabulary"]) if isinstance(value, dict) else value
            for name, value in config.items()
        }
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"[{cls.__name__}.load] {os.fspath(path)}: the file is damaged: {error!s}") from None
