"""pydl.save and pydl.load: dicts of tensors, and nested ones with numbers and texts between them, as checkpoints are.

A flat dict of tensors is a plain safetensors file. Of anything else the tensors are one, and the shape of the nest is
JSON in its metadata. Nothing is pickled, so a file can hold values and nothing that runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pydl
from pydl.serialization import load_file, load_metadata, save_file

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load", "save"]

_KEY = "pydl.nest"


def save(
    obj: Any, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None, **torch_options: Any
) -> None:
    """Write a state or a checkpoint to ``path``, atomically and without pickle.

    Args:
        obj: a dict of tensors (``model.state_dict()``), or dicts, lists and tuples in each other of tensors, numbers,
            texts, True, False and None. Whole models are not saved: save their ``state_dict()``.
        path: the file; a flat dict of tensors is a safetensors file that other programs read.
        metadata: texts to keep beside the tensors.
        torch_options: pickle_module and the like are accepted and have no effect.

    Raises:
        TypeError: something else is in it; says where.

    >>> import os, tempfile, pydl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "checkpoint.pt")
    ...     save({"epoch": 3, "best": (0.5, None), "w": [pydl.ones((2,))]}, path)
    ...     load(path)
    {'epoch': 3, 'best': (0.5, None), 'w': [tensor([1., 1.])]}
    """
    import json

    unknown = set(torch_options) - {"pickle_module", "pickle_protocol", "_use_new_zipfile_serialization"}
    if unknown:
        raise TypeError(f"[save] got the unknown argument {sorted(unknown)[0]!r}, expected obj, path and metadata")
    if hasattr(obj, "write"):
        obj, path = path, obj
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"[save] got a {type(path).__name__} as the file, expected a path")
    if hasattr(obj, "state_dict") or (hasattr(obj, "items") and all(map(_is_entry, obj.items()))):
        save_file(obj, path, metadata)
        return
    tensors: dict[str, Any] = {}
    nest = json.dumps(_taken_apart(obj, "", tensors), separators=(",", ":"))
    save_file(tensors, path, {**(metadata or {}), _KEY: nest})


def load(path: str | os.PathLike[str], map_location: Any = None, **torch_options: Any) -> Any:
    """Read what :func:`save` has written, or any safetensors file.

    Args:
        path: the file.
        map_location: ``"cpu"``, which is where tensors are, or None.
        torch_options: weights_only, mmap and pickle_module are accepted and have no effect.

    Raises:
        ValueError: the file is damaged, hostile, or a pickle of ``torch.save``; says so and names the file.
    """
    import json

    unknown = set(torch_options) - {"weights_only", "mmap", "pickle_module"}
    if unknown:
        raise TypeError(f"[load] got the unknown argument {sorted(unknown)[0]!r}, expected path and map_location")
    if map_location is not None and not callable(map_location):
        pydl.Device(map_location)
    with open(path, "rb") as file:
        start = file.read(9)
    # A safetensors file begins with its header's length, of which the upper bytes are 0, and the header's brace.
    if (start[:2] == b"PK" or start[:1] == b"\x80") and start[5:] != b"\0\0\0{":
        raise ValueError(
            f"[load] {os.fspath(path)} holds a pickle, as torch.save and pickle.dump write; pydl reads none. Convert "
            "it where PyTorch is installed: safetensors.torch.save_file(torch.load(file), 'weights.safetensors')"
        )
    tensors = load_file(path)
    nest = load_metadata(path).get(_KEY)
    if nest is None:
        return tensors
    try:
        return _put_together(json.loads(nest), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"[load] {os.fspath(path)} is damaged: its nest of values does not fit ({error})") from None


def _is_entry(pair: tuple[Any, Any]) -> bool:
    return isinstance(pair[0], str) and isinstance(pair[1], pydl.Tensor)


def _taken_apart(value: Any, place: str, tensors: dict[str, Any]) -> Any:
    """JSON for a value; its tensors go into ``tensors`` under the names of their places."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, pydl.Tensor):
        name = place or "tensor"
        while name in tensors:
            name += "_"
        tensors[name] = value
        return {"tensor": name}
    if hasattr(value, "items"):
        pairs = []
        for key, inner in value.items():
            if not (key is None or type(key) in (bool, int, float, str)):
                raise TypeError(f"[save] got the key {key!r} at {place or 'the top'}, expected a text or a number")
            pairs.append([key, _taken_apart(inner, f"{place}.{key}" if place else str(key), tensors)])
        return {"dict": pairs}
    if isinstance(value, (list, tuple)):
        entries = [_taken_apart(inner, f"{place}.{i}" if place else str(i), tensors) for i, inner in enumerate(value)]
        return {"tuple": entries} if isinstance(value, tuple) else entries
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # NumPy's numbers
        return value.item()
    hint = ".state_dict() of it" if hasattr(value, "state_dict") else "tensors (pydl.asarray), numbers, texts"
    raise TypeError(f"[save] got a {type(value).__name__} at {place or 'the top'}, expected {hint}; nothing is pickled")


def _put_together(value: Any, tensors: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_put_together(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "tuple":
        return tuple(_put_together(part, tensors) for part in inner)
    if kind == "dict":
        return {key: _put_together(part, tensors) for key, part in inner}
    raise ValueError(f"unknown kind {kind!r}")
