"""pydl.save and pydl.load of checkpoints: dicts in dicts, optimizers' states, and what is refused."""

from __future__ import annotations

import json
import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import nn, optim
from pydl.serialization import load_file, load_metadata, save_file
from tolerances import assert_same_bits


def trained() -> tuple[nn.Module, optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(pydl.ones((4, 3))).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_checkpoint_comes_back_whole(tmp_path: pathlib.Path) -> None:
    model, optimizer = trained()
    file = tmp_path / "checkpoint.pt"
    odd = {
        "epoch": 3,
        "best": (0.5, None, float("inf")),
        7: [True, "text"],
        "a.b": pydl.ones((2,)),
        "a": {"b": pydl.zeros(3)},
    }
    pydl.save({**odd, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, file, metadata={"by": "me"})
    found = pydl.load(file, map_location="cpu", weights_only=True)
    assert (found["epoch"], found["best"], found[7]) == (3, (0.5, None, float("inf")), [True, "text"])
    assert found["a.b"].tolist() == [1, 1]
    assert found["a"]["b"].tolist() == [0, 0, 0]
    other, its_optimizer = trained()
    other.load_state_dict(found["model"])
    its_optimizer.load_state_dict(found["optimizer"])
    for each in (model, other):
        each.zero_grad()
        each(pydl.ones((1, 3))).sum().backward()
    optimizer.step()
    its_optimizer.step()
    assert_same_bits(other.weight.detach().numpy(), model.weight.detach().numpy())
    assert load_metadata(file)["by"] == "me"
    assert len(load_file(file)) == 2 + 2 + 4  # any reader of the format finds the tensors


def test_a_flat_state_is_a_plain_file(tmp_path: pathlib.Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    pydl.save(state, tmp_path / "a")
    save_file(state, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(pydl.load(tmp_path / "a")) == ["weight", "bias"] or set(pydl.load(tmp_path / "a")) == set(state)


def test_what_is_refused(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(TypeError, match=r"expected a dict .* give it \.state_dict\(\)"):
        pydl.save(nn.Linear(2, 2), file)
    with pytest.raises(TypeError, match=r"^\[save\] got a Linear at parts\.1, expected \.state_dict\(\) of it"):
        pydl.save({"parts": [1, nn.Linear(2, 2)]}, file)
    with pytest.raises(TypeError, match=r"got a ndarray at x, expected tensors \(pydl\.asarray\), numbers, texts"):
        pydl.save({"x": np.ones(2)}, file)
    with pytest.raises(TypeError, match=r"got a set at the top"):
        pydl.save({1, 2}, file)
    with pytest.raises(TypeError, match=r"unknown argument 'compress'"):
        pydl.save({}, file, compress=True)
    assert not file.exists()
    file.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(ValueError, match=r"holds a pickle, as torch\.save .*safetensors\.torch"):
        pydl.load(file)
    with pytest.raises(NotImplementedError, match="no CUDA"):
        pydl.load(file, map_location="cuda:0")


@pytest.mark.parametrize(("start", "filled"), [(b"\x80", 0x180), (b"PK", 0x4B50)])
def test_headers_whose_length_looks_like_a_pickle(start: bytes, filled: int, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    pydl.save({"text": "", "w": pydl.ones(2)}, file)
    text = "x" * (filled - int.from_bytes(file.read_bytes()[:8], "little"))
    pydl.save({"text": text, "w": pydl.ones(2)}, file)
    assert file.read_bytes().startswith(start)
    assert pydl.load(file)["text"] == text


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_any_protocol_are_explained(protocol: int, tmp_path: pathlib.Path) -> None:
    for value in ({}, {"{": "{"}, ["{" * 300], "{{{{{{"):
        (tmp_path / "file").write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(ValueError, match="holds a pickle"):
            pydl.load(tmp_path / "file")


def test_a_file_of_torch_save_is_explained(tmp_path: pathlib.Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds a pickle"):
        pydl.load(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "nest",
    ['{"tensor": "missing"}', '{"dict": 3}', '{"dict": [[1]]}', '{"run": "me"}', '{"tensor": [], "b": 1}', "{",
     '{"dict": [[[], 1]]}',
     "[" * 100000 + "]" * 100000],
    ids=range(8),
)  # fmt: skip
def test_hostile_nests(nest: str, tmp_path: pathlib.Path) -> None:
    save_file({"w": pydl.ones((2,))}, tmp_path / "file", {"pydl.nest": nest})
    with pytest.raises(ValueError, match="damaged"):
        pydl.load(tmp_path / "file")


def test_numbers_of_numpy_and_json(tmp_path: pathlib.Path) -> None:
    values: dict[str, Any] = {"loss": np.float32(0.5), "n": np.int64(3)}
    pydl.save(values, tmp_path / "file")
    found = pydl.load(tmp_path / "file")
    assert found == {"loss": 0.5, "n": 3}
    assert type(found["n"]) is int
    pydl.save({3: pydl.ones((1,)), None: [pydl.zeros((2,))]}, tmp_path / "keys")
    keys = pydl.load(tmp_path / "keys")
    assert keys[3].tolist() == [1.0]
    assert keys[None][0].tolist() == [0.0, 0.0]
    assert json.loads(load_metadata(tmp_path / "file")["pydl.nest"]) == {"dict": [["loss", 0.5], ["n", 3]]}
