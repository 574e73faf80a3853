"""Files: round trips of every dtype, the safetensors library both ways, hostile files, and writing all or nothing."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys
import textwrap
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import pydl
from pydl import nn
from pydl._atomic import atomic_write
from tolerances import assert_same_bits

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    made = {}
    for i, dtype in enumerate(DTYPES):
        raw = rng.integers(0, 256, size=(3, 5, np.dtype(dtype).itemsize), dtype=np.uint8)
        made[f"layer.{i}.{dtype}"] = (raw[..., 0] > 100) if dtype == "bool" else raw.view(dtype)[..., 0]
    return made | {
        "scalar": np.asarray(1.5, np.float32),
        "empty": np.zeros((3, 0, 2)),
        "": np.ones((1,)),
        'ü "\\': np.ones(2),
    }


def write(path: pathlib.Path, header: Any, data: bytes = b"", length: int | None = None) -> pathlib.Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "weights.safetensors"


def test_round_trip_of_every_dtype_to_the_bit(path: pathlib.Path, rng: np.random.Generator) -> None:
    given = arrays(rng)
    pydl.save({name: pydl.asarray(a) for name, a in given.items()}, path)
    loaded = pydl.load(path)
    assert set(loaded) == set(given)
    for name, array in given.items():
        assert_same_bits(loaded[name].numpy(), array, name)
        assert not loaded[name].requires_grad
    loaded["scalar"].fill_(3.0)  # its own memory, and writable


def test_bfloat16_round_trip(path: pathlib.Path) -> None:
    every = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    every = every[~np.isnan(every)]
    pydl.save({"x": pydl.asarray(every).astype(pydl.bfloat16)}, path)
    loaded = pydl.load(path)["x"]
    assert loaded.dtype == pydl.bfloat16
    assert_same_bits(loaded.astype(pydl.float32).numpy(), every)


def test_strides_gradients_and_sharing_are_no_matter(path: pathlib.Path, rng: np.random.Generator) -> None:
    array = rng.normal(size=(4, 6))
    x = pydl.asarray(array.copy()).requires_grad_()
    given = {"t": pydl.permute_dims(x, (1, 0)), "step": x[::2, 1::2], "flip": x[::-1], "again": x}
    pydl.save(given, path)
    loaded = pydl.load(path)
    for name, expected in (("t", array.T), ("step", array[::2, 1::2]), ("flip", array[::-1]), ("again", array)):
        np.testing.assert_array_equal(loaded[name].numpy(), expected)


def test_layout_header_padding_alignment_and_determinism(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    given = {"b": pydl.ones((3,), dtype=pydl.bool), "a": pydl.ones((3,), dtype=pydl.float64), "c": pydl.ones((5,))}
    pydl.save(given, path, metadata={"k": "v"})
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    assert length % 8 == 0
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"k": "v"}
    assert [(n, e["data_offsets"]) for n, e in header.items()] == [("a", [0, 24]), ("c", [24, 44]), ("b", [44, 47])]
    assert len(raw) == 8 + length + 47
    other = tmp_path / "other"
    pydl.save(dict(reversed(given.items())), other, metadata={"k": "v"})
    assert other.read_bytes() == raw


def test_metadata(path: pathlib.Path) -> None:
    pydl.save({}, path, metadata={"step": "12", "läuft": "ja"})
    assert pydl.serialization.load_metadata(path) == {"step": "12", "läuft": "ja"}
    assert pydl.load(path) == {}
    pydl.save({"x": pydl.ones((1,))}, path)
    assert pydl.serialization.load_metadata(path) == {}


def test_a_module_and_its_copy(path: pathlib.Path) -> None:
    model, twin = (nn.Sequential(nn.Embedding(5, 3), nn.LSTM(3, 4, bidirectional=True)) for _ in range(2))
    pydl.save(model.state_dict(), path)
    assert str(twin.load_state_dict(pydl.load(str(path)))) == "<All keys matched successfully>"
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert_same_bits(a.detach().numpy(), b.detach().numpy())


def test_wrong_things_to_save(path: pathlib.Path) -> None:
    for tensors, error, message in (
        ({"x": np.ones(2)}, TypeError, r"'x' is a ndarray, expected a Tensor"),
        ({3: pydl.ones((1,))}, TypeError, "names must be texts"),
        (nn.Linear(2, 2), TypeError, r"got a Linear, expected a dict of names and tensors; give it .state_dict\(\)"),
        ([pydl.ones((1,))], TypeError, "got a list, expected a dict"),
        ({"__metadata__": pydl.ones((1,))}, ValueError, "own name"),
    ):
        with pytest.raises(error, match=message):
            pydl.serialization.save_file(tensors, path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="texts to texts"):
        pydl.save({}, path, metadata={"epoch": 3})  # type: ignore[dict-item]
    assert not list(path.parent.iterdir())


def test_the_safetensors_library_reads_our_files(path: pathlib.Path, rng: np.random.Generator) -> None:
    safetensors = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    given = arrays(rng)
    pydl.save({name: pydl.asarray(a) for name, a in given.items()}, path, metadata={"a": "b"})
    for name, array in load_file(path).items():
        assert_same_bits(array, given[name], name)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"a": "b"}
        assert set(file.keys()) == set(given)
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    x = rng.normal(size=(7, 3)).astype(np.float32)
    pydl.save({"x": pydl.asarray(x).astype(pydl.bfloat16)}, path)
    assert torch.equal(load_torch(path)["x"], torch.from_numpy(x).bfloat16())


def test_we_read_the_safetensors_librarys_files(path: pathlib.Path, rng: np.random.Generator) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    given = arrays(rng)
    save_file(given, path, metadata={"a": "b"})
    for name, tensor in pydl.load(path).items():
        assert_same_bits(tensor.numpy(), given[name], name)
    assert pydl.serialization.load_metadata(path) == {"a": "b"}
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    x = torch.from_numpy(rng.normal(size=(7, 3))).bfloat16()
    save_torch({"x": x}, path)
    assert_same_bits(pydl.load(path)["x"].astype(pydl.float32).numpy(), x.float().numpy())


HOSTILE: list[tuple[str, Any, bytes, int | None, str]] = [
    ("header beyond the file", {}, b"", 100, "claims a header of 100 bytes, but only 2 follow"),
    ("header of 100 MB and more", {}, b"", 100_000_001, "at most 100000000"),
    ("header length of 2^63", {}, b"", 2**63, "at most"),
    ("no JSON", b"{]", b"", None, "no proper JSON|not proper JSON"),
    ("no UTF-8", b'{"\xff": 1}', b"", None, "not UTF-8"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), b"", None, "not UTF-8|not proper JSON"),
    ("empty header", b"", b"", None, "not proper JSON"),
    ("a list", [], b"", None, "a JSON list"),
    ("deep nesting", b"[" * 100_000, b"", None, "not proper JSON"),
    ("NaN", b'{"a": NaN}', b"", None, "NaN is not JSON"),
    ("a name twice", b'{"a": 1, "a": 2}', b"", None, "'a' stands there twice"),
    ("a key twice", b'{"a": {"dtype": "F32", "dtype": "F64"}}', b"", None, "'dtype' stands there twice"),
    ("no dict", {"a": 3}, b"", None, "must have dtype"),
    ("no offsets", {"a": {"dtype": "F32", "shape": []}}, b"", None, "must have dtype"),
    ("unknown dtype", {"a": entry("F8_E4M3")}, b"0" * 8, None, "unknown dtype 'F8_E4M3'"),
    ("dtype of a number", {"a": entry(4)}, b"0" * 8, None, "unknown dtype 4"),  # type: ignore[arg-type]
    ("negative size", {"a": entry(shape=(-2,))}, b"0" * 8, None, r"shape \[-2\]"),
    ("size of a float", {"a": entry(shape=(2.0,))}, b"0" * 8, None, r"shape \[2.0\]"),
    ("size of a bool", {"a": entry(shape=(True, 2))}, b"0" * 8, None, r"shape \[True"),
    ("size too big", {"a": entry(shape=(2**64,))}, b"0" * 8, None, "shape"),
    ("shape overflow", {"a": entry(shape=(2**32, 2**32, 2))}, b"0" * 8, None, "more than any memory"),
    ("overflow to nothing", {"a": entry(shape=(2**62, 2**62, 0), offsets=(0, 0))}, b"", None, "more than any memory"),
    ("too many axes", {"a": entry(shape=(1,) * 17, offsets=(0, 4))}, b"0" * 4, None, "up to 16"),
    ("negative offset", {"a": entry(offsets=(-8, 0))}, b"0" * 8, None, "offsets"),
    ("three offsets", {"a": entry(offsets=(0, 4, 8))}, b"0" * 8, None, "offsets"),
    ("offsets turned round", {"a": entry(offsets=(8, 0))}, b"0" * 8, None, "takes 8 bytes, but has -8"),
    ("wrong size", {"a": entry(shape=(3,))}, b"0" * 8, None, "takes 12 bytes, but has 8"),
    ("beyond the end", {"a": entry()}, b"0" * 4, None, "bytes are missing at the end"),
    ("trailing bytes", {"a": entry()}, b"0" * 9, None, "bytes trail"),
    ("overlap", {"a": entry(), "b": entry(offsets=(4, 12))}, b"0" * 12, None, "'b' at bytes 4 to 12 overlaps"),
    ("the same bytes", {"a": entry(), "b": entry()}, b"0" * 8, None, "overlaps"),
    ("gap", {"a": entry(), "b": entry(offsets=(12, 20))}, b"0" * 20, None, "leaves a gap"),
    ("gap at the start", {"a": entry(offsets=(4, 12))}, b"0" * 12, None, "leaves a gap"),
    ("metadata of numbers", {"__metadata__": {"a": 1}}, b"", None, "__metadata__ is no map of texts"),
    ("metadata list", {"__metadata__": []}, b"", None, "__metadata__ is no map of texts"),
    ("bool of 2", {"a": entry("BOOL", (2,), (0, 2))}, b"\x01\x02", None, "other than 0 and 1"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "data", "length", "message"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_hostile_files_are_one_clear_error(
    header: Any, data: bytes, length: int | None, message: str, path: pathlib.Path
) -> None:
    write(path, header, data, length)
    with pytest.raises(ValueError, match=message) as caught:
        pydl.load(path)
    assert type(caught.value) is ValueError
    assert str(path) in str(caught.value)


def test_files_cut_anywhere(path: pathlib.Path, rng: np.random.Generator) -> None:
    pydl.save({name: pydl.asarray(a) for name, a in arrays(rng).items()}, path)
    raw = path.read_bytes()
    for end in [*range(40), *range(40, len(raw), 17), len(raw) - 1]:
        path.write_bytes(raw[:end])
        with pytest.raises(ValueError, match=r"\[load_file\] .*weights.safetensors is no valid safetensors file"):
            pydl.load(path)


@hypothesis.given(at=st.integers(0, 400), value=st.integers(0, 255))
def test_files_with_one_wrong_byte_never_do_anything_but_load_or_raise_value_error(
    at: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped"
    pydl.save(
        {"a": pydl.ones((3,)), "bb": pydl.zeros((2, 2), dtype=pydl.int64), "c": pydl.ones((2,), dtype=pydl.bool)}, path
    )
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = value
    path.write_bytes(raw)
    try:
        pydl.load(path)
    except ValueError as error:
        message = str(error)
    else:
        message = str(path)
    assert str(path) in message


def test_missing_file_is_the_systems_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        pydl.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        pydl.save({}, tmp_path / "no" / "folder")


def test_a_failed_write_leaves_the_old_file_and_no_other(path: pathlib.Path) -> None:
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            file.flush()
            assert len(list(path.parent.iterdir())) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_errors_of_the_disk_leave_the_old_file(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for broken in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, full)
            with pytest.raises(OSError, match="No space"):
                pydl.save({"x": pydl.ones((4,))}, path)
        assert path.read_text() == "old"
        assert list(path.parent.iterdir()) == [path]


def test_order_of_system_calls(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it takes the name, the folder after."""
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def replace(source: str, target: str) -> None:
        calls.append("rename")
        assert os.path.dirname(source) == os.path.dirname(target)
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    pydl.save({"x": pydl.ones((4,))}, path)
    assert calls == ["file", "rename", "folder"]


def test_permissions_links_and_special_files(path: pathlib.Path) -> None:
    with atomic_write(path, "w") as file:
        file.write("ä")
    assert path.read_bytes() == "ä".encode()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o640)
    link = path.parent / "link"
    link.symlink_to(path)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    for special in ("/dev/null", path.parent):
        with pytest.raises(ValueError, match="no regular file"), atomic_write(special):
            pass
    with pytest.raises(ValueError, match="mode"), atomic_write(path, "a"):
        pass
    with atomic_write(path.parent / ("n" * 255)) as file:
        file.write(b"longest name")


def test_a_process_killed_while_saving_leaves_a_whole_file(path: pathlib.Path) -> None:
    program = """
        import sys, pydl
        i = 0
        while True:
            pydl.save({"x": pydl.full((200_000,), float(i)), "i": pydl.asarray([i])}, sys.argv[1])
            print(i, flush=True)
            i += 1
    """
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(5):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        loaded = pydl.load(path)
        assert loaded["i"].item() >= 4
        assert np.all(loaded["x"].numpy() == loaded["i"].item())
