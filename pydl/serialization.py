"""Tensors in a file: the safetensors format (https://github.com/huggingface/safetensors), read and written here.

Layout: 8 bytes little-endian header length, a JSON header, the tensors' bytes without gaps. No pickle: a file can hold
numbers and short texts and nothing that runs. A damaged or hostile file is one clear ValueError that names it.
"""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

import pydl
from pydl import _C
from pydl._atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydl import Tensor

__all__ = ["load", "load_file", "load_metadata", "save", "save_file"]

_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_RANK = 16

# code in the file -> (pydl's name, NumPy's little-endian type of the stored bytes)
_DTYPES = {
    "BOOL": ("bool", "|u1"),
    "U8": ("uint8", "|u1"),
    "I8": ("int8", "|i1"),
    "U16": ("uint16", "<u2"),
    "I16": ("int16", "<i2"),
    "U32": ("uint32", "<u4"),
    "I32": ("int32", "<i4"),
    "U64": ("uint64", "<u8"),
    "I64": ("int64", "<i8"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "F32": ("float32", "<f4"),
    "F64": ("float64", "<f8"),
}


def save_file(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors to ``path``, atomically: after a crash it is the old file or the new one, never half of one.

    The bytes depend on names, values and metadata alone, so equal states give equal files. Widest types come first,
    so every tensor is aligned to its element size. Shared storage is written once for each name.

    Args:
        tensors: name -> tensor of any dtype, shape and strides; ``Module.state_dict()`` is one.
        path: the file to write, commonly ``*.safetensors``.
        metadata: texts to keep beside the tensors; see :func:`load_metadata`.

    Raises:
        TypeError: a name or a metadata entry is no text, or a value is no tensor.
        ValueError: a name is ``"__metadata__"``, or the header would pass 100 MB.

    >>> import os, tempfile, pydl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "w.safetensors")
    ...     save_file({"w": pydl.arange(3, dtype=pydl.float32)}, path, metadata={"epoch": "7"})
    ...     load_file(path)["w"].numpy().tolist(), load_metadata(path)
    ([0.0, 1.0, 2.0], {'epoch': '7'})
    """
    import json

    if not hasattr(tensors, "items"):
        hint = "; give it .state_dict()" if hasattr(tensors, "state_dict") else ""
        raise TypeError(f"[save_file] got a {type(tensors).__name__}, expected a dict of names and tensors{hint}")
    codes = {getattr(pydl, name): code for code, (name, _) in _DTYPES.items()}
    arrays: dict[str, tuple[str, tuple[int, ...], np.ndarray]] = {}
    for name, tensor in tensors.items():
        _check_entry(name, tensor)
        code = codes[tensor.dtype]
        arrays[name] = (code, tuple(tensor.shape), _stored_bytes(tensor, code))

    header: dict[str, Any] = {}
    if metadata is not None:
        for key, value in metadata.items():
            if not (isinstance(key, str) and isinstance(value, str)):
                raise TypeError(f"[save_file] metadata must map texts to texts, got {key!r}: {value!r}; use str()")
        header["__metadata__"] = dict(metadata)
    order = sorted(arrays, key=lambda name: (-arrays[name][2].itemsize, name))
    offset = 0
    for name in order:
        code, shape, array = arrays[name]
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MAX_HEADER:
        raise ValueError(f"[save_file] a header of {len(text)} bytes passes the format's 100 MB; split the file")

    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(arrays[name][2].data)


def load_file(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file, in the order in which they lie there.

    Args:
        path: a file that :func:`save_file` or any other writer of the format has made.

    Returns:
        name -> tensor, on the CPU, without gradient.

    Raises:
        ValueError: the file is damaged, cut off or hostile; says what is wrong and names the file.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        header, start = _read_header(file, path)
        tensors = {}
        file.seek(start)
        for name, (code, shape, _) in header.items():
            array = np.empty(shape, _DTYPES[code][1])
            if array.nbytes and file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                raise _damaged(path, f"it ends inside tensor {name!r}")
            tensors[name] = _from_stored(array, code, name, path)
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read only the texts that were given to :func:`save_file` as ``metadata``; empty where there are none.

    Raises:
        ValueError: as :func:`load_file`.
    """
    metadata: dict[str, str] = {}
    with open(path, "rb") as file:
        _read_header(file, path, metadata)
    return metadata


save = save_file
load = load_file


def _check_entry(name: Any, tensor: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"[save_file] names must be texts, got {name!r}")
    if name == "__metadata__":
        raise ValueError("[save_file] '__metadata__' is the format's own name; rename the tensor")
    if not isinstance(tensor, pydl.Tensor):
        raise TypeError(
            f"[save_file] {name!r} is a {type(tensor).__name__}, expected a Tensor; use pydl.asarray(value)"
        )


def _stored_bytes(tensor: Tensor, code: str) -> np.ndarray:
    tensor = tensor.detach()
    if code == "BF16":  # which NumPy lacks
        bits = np.frombuffer(tensor.numpy_bytes(), np.uint16)
        return bits.astype("<u2", copy=False)
    array = np.ascontiguousarray(tensor.cpu().numpy())
    return array.view("|u1") if code == "BOOL" else array.astype(_DTYPES[code][1], copy=False)


def _from_stored(array: np.ndarray, code: str, name: str, path: str | os.PathLike[str]) -> Tensor:
    if code == "BF16":
        x = pydl.empty(array.shape, dtype=pydl.bfloat16)
        if array.size:
            _C.set_memory(x, array.astype(np.uint16, copy=False).tobytes())
        return x
    if code == "BOOL":
        if array.size and array.max() > 1:
            raise _damaged(path, f"tensor {name!r} is BOOL but holds bytes other than 0 and 1")
        return pydl.asarray(array.view(np.bool_))
    return pydl.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _damaged(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(f"[load_file] {os.fspath(path)} is no valid safetensors file: {what}")


_Header = dict[str, tuple[str, tuple[int, ...], tuple[int, int]]]


def _read_header(
    file: IO[bytes], path: str | os.PathLike[str], metadata: dict[str, str] | None = None
) -> tuple[_Header, int]:
    """The checked header, sorted by place, and where the data begin. Fills ``metadata`` when given."""
    size = file.seek(0, 2)
    file.seek(0)
    if size < 8:
        raise _damaged(path, f"it has {size} bytes, and the header's length alone takes 8")
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise _damaged(path, f"it claims a header of {length} bytes; at most {_MAX_HEADER} are allowed")
    if length > size - 8:
        raise _damaged(path, f"it claims a header of {length} bytes, but only {size - 8} follow")
    entries = _parse(file.read(length), path)
    texts = entries.pop("__metadata__", {})
    if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
        raise _damaged(path, "its __metadata__ is no map of texts")
    if metadata is not None:
        metadata.update(texts)
    header = {name: _check_tensor(name, entry, path) for name, entry in entries.items()}
    header = dict(sorted(header.items(), key=lambda item: item[1][2]))
    end = 0
    for name, (_, _, (first, last)) in header.items():
        if first != end:
            fault = "overlaps the tensor before it" if first < end else "leaves a gap before it"
            raise _damaged(path, f"tensor {name!r} at bytes {first} to {last} {fault}, which ends at {end}")
        end = last
    data = size - 8 - length
    if end != data:
        fault = "bytes are missing at the end" if end > data else "bytes trail after the last tensor"
        raise _damaged(path, f"its tensors take {end} bytes, but {data} follow the header: {fault}")
    return header, 8 + length


def _parse(text: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} stands there twice")
        return found

    def constant(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise _damaged(path, f"its header is not UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not proper JSON ({error})") from None
    if not isinstance(entries, dict):
        raise _damaged(path, f"its header is a JSON {type(entries).__name__}, expected an object")
    return entries


def _check_tensor(name: str, entry: Any, path: str | os.PathLike[str]) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"tensor {name!r} must have dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise _damaged(path, f"tensor {name!r} has the unknown dtype {code!r}; known are {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(_is_size(n) for n in shape) or len(shape) > _MAX_RANK:
        raise _damaged(path, f"tensor {name!r} has the shape {shape!r}, expected up to {_MAX_RANK} sizes of 0 or more")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise _damaged(path, f"tensor {name!r} has the offsets {offsets!r}, expected two numbers of 0 or more")
    count = extent = np.dtype(_DTYPES[code][1]).itemsize
    for n in shape:  # Python integers: nothing overflows here
        count *= n
        extent *= max(n, 1)
    if extent >= 2**63:
        raise _damaged(path, f"tensor {name!r} has the shape {shape}, more than any memory holds")
    if offsets[1] - offsets[0] != count:
        raise _damaged(
            path,
            f"tensor {name!r} of shape {shape} and dtype {code} takes {count} bytes, but has {offsets[1] - offsets[0]}",
        )
    return code, tuple(shape), (offsets[0], offsets[1])


def _is_size(n: Any) -> bool:
    return type(n) is int and 0 <= n < 2**63
