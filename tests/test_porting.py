"""Model files as users of PyTorch write them run after torch is replaced by pydl in their text, with equal results."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import pydl
from tolerances import assert_near

FOLDER = pathlib.Path(__file__).parent / "porting"
SIZES = {
    "mlp": (1, 8, 8),
    "lenet": (3, 32, 32),
    "resnet18": (3, 48, 48),
    "lstm_tagger": (1,),
    "transformer_encoder": (1,),
    "actor_critic": (4,),
    "dcgan": (3, 16, 16),
    "mnist": (1, 16, 16),
    "seq2seq_attention": (1,),
    "siamese": (1, 8, 8),
    "super_resolution": (1, 8, 8),
    "time_sequence": (1,),
    "vae": (1, 8, 8),
    "word_language_model": (1,),
}
LONG = ("transformer_encoder", "word_language_model")  # texts of 32 words


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    """In float32 Adam makes steps of the rounding of gradients that are 0, as those of a key's bias."""
    torch = pytest.importorskip("torch")
    for library, double in ((torch, torch.float64), (pydl, pydl.float64)):
        library.set_default_dtype(double)
    yield
    torch.set_default_dtype(torch.float32)
    pydl.set_default_dtype(pydl.float32)


def executed(text: str, name: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), scope)
    return scope


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # PyTorch's
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_model_file_runs_after_its_import_is_changed(name: str, rng: np.random.Generator) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    assert "torch" in text
    assert "torch" not in text.replace("torch", "pydl")
    theirs, ours = executed(text, name), executed(text.replace("torch", "pydl"), name)
    images = rng.normal(size=(32 if name == "mlp" else 8, *SIZES[name]))
    labels = rng.integers(0, 10, 32 if name in LONG else len(images))
    models = theirs["build"](), ours["build"]()
    state = models[0].state_dict()
    assert list(state) == list(models[1].state_dict())
    models[1].load_state_dict({key: value.numpy().copy() for key, value in state.items()})
    for step in ("predict", "train", "predict"):
        wanted, got = (scope[step](model, images, labels) for scope, model in zip((theirs, ours), models, strict=True))
        assert len(got) == len(wanted)
        for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
            assert_near(np.asarray(a), np.asarray(b), 1e-6, 1e-7, f"{step} {i}")
    for key, value in models[0].state_dict().items():
        assert_near(models[1].state_dict()[key].numpy(), value.numpy(), 1e-6, 1e-7, key)
