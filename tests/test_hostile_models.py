"""Files of models whose description lies: a clear error each, before any memory is taken for what they claim."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

import pydl
from pydl import nn
from pydl.models import (
    Captioner,
    CharLM,
    Draw,
    LanguageModel,
    RecurrentAttention,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
)
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text import WordVocabulary

WORDS = WordVocabulary(["one", "two"])
MODELS: dict[str, Any] = {
    "Captioner": lambda: Captioner((2, 9, 8), WORDS, encoder=(3, 4), hidden_size=8),
    "CharLM": lambda: CharLM("abc", hidden_size=8, num_layers=1),
    "Draw": lambda: Draw(6, 7, steps=3, read=2, write=3, hidden_size=8, latent_size=4),
    "LanguageModel": lambda: LanguageModel(WORDS, hidden_size=8),
    "RecurrentAttention": lambda: RecurrentAttention(9, 9, 3, glimpses=2, patch=3, hidden_size=8),
    "Seq2Seq": lambda: Seq2Seq(WORDS, 7, attention="additive", embedding_size=5, hidden_size=8, num_layers=2),
    "Seq2Seq of features": lambda: Seq2Seq(5, WORDS, hidden_size=8, cell="lstm", bidirectional=False),
    "SequenceClassifier": lambda: SequenceClassifier(9, 3, embedding_size=5, hidden_size=8, dropout=0),
    "SequenceTagger": lambda: SequenceTagger(WORDS, 3, hidden_size=8, cell="rnn"),
}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Half a gigabyte more than is taken already; whoever asks for more gets a MemoryError, which is no ValueError."""
    resource = pytest.importorskip("resource")
    taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def saved(name: str, folder: pathlib.Path) -> tuple[Any, dict[str, Any], dict[str, str], dict[str, Any]]:
    """The class, its file's weights and metadata, and the description of the model in these."""
    pydl.manual_seed(0)
    model = MODELS[name]()
    model.save(folder / "good")
    metadata = load_metadata(folder / "good")
    return type(model), load_file(folder / "good"), metadata, json.loads(metadata["model"])


def refused(kind: Any, weights: Any, metadata: dict[str, str], description: str, folder: pathlib.Path) -> str:
    save_file(weights, folder / "lie", {**metadata, "model": description})
    with pytest.raises(ValueError, match=r"lie: the file is damaged: .") as raised:
        kind.load(folder / "lie")
    assert len(str(raised.value)) < 2000, description[:200]
    return str(raised.value)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", MODELS)
def test_every_size_may_lie(name: str, tmp_path: pathlib.Path) -> None:
    kind, weights, metadata, config = saved(name, tmp_path)
    kind.load(tmp_path / "good")
    sizes = [key for key, value in config.items() if type(value) is int and key != "dropout"]
    assert len(sizes) > 1
    for key in sizes:
        for value in (0, -1, 40_000, 4_000_000_000, 10**30, 1.5, 1e308, float("nan"), "8", [8], {"a": 1}, "many"):
            free = kind is RecurrentAttention and key in ("height", "width") and type(value) is int and value > 0
            if not free:  # what it sees of an image of any size are patches of one size
                refused(kind, weights, metadata, json.dumps({**config, key: value}), tmp_path)
    for key, value in config.items():
        if isinstance(value, (str, list, dict)):
            for lie in (7, 1e308, "?", [], ["?"], {}, {"vocabulary": {}}, {"vocabulary": 3}):
                if (key, lie) != ("encoder", "?"):  # so a file says that it lacks the code of its encoder
                    refused(kind, weights, metadata, json.dumps({**config, key: lie}), tmp_path)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("name", MODELS)
def test_weights_that_take_no_bytes_prove_no_size(name: str, tmp_path: pathlib.Path) -> None:
    kind, weights, metadata, config = saved(name, tmp_path)
    sizes = [key for key, value in config.items() if type(value) is int and key not in ("dropout", "num_layers")]
    many = 1 << 18  # a matrix of so many rows and columns takes 256 GB
    thin = {"a": pydl.zeros((0, many)), "b": pydl.zeros((1, many)), "rnn.weight_hh_l7": pydl.zeros((1, 1))}
    for key in set(sizes) - ({"height", "width"} if kind is RecurrentAttention else set()):
        refused(kind, {**weights, **thin}, metadata, json.dumps({**config, key: many}), tmp_path)
    layers = {f"{prefix}.weight_hh_l{i}": pydl.zeros((0, 1)) for prefix in ("rnn", "decoder") for i in range(3, 2000)}
    if "num_layers" in config:
        lie = {**config, "num_layers": 1997 + int(config["num_layers"])}
        refused(kind, {**weights, **layers}, metadata, json.dumps(lie), tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_descriptions_that_are_none(name: str, tmp_path: pathlib.Path) -> None:
    kind, weights, metadata, config = saved(name, tmp_path)
    for text in ("", "{", "[]", "3", "null", '"text"', "[" * 200_000, "{}", json.dumps({**config, "unknown": 1})):
        refused(kind, weights, metadata, text, tmp_path)
    for missing in weights:
        rest = {key: value for key, value in weights.items() if key != missing}
        refused(kind, rest, metadata, json.dumps(config), tmp_path)


@pytest.mark.parametrize(("name", "key"), [("Draw", "steps"), ("RecurrentAttention", "glimpses")])
def test_steps_have_an_end(name: str, key: str, tmp_path: pathlib.Path) -> None:
    kind, weights, metadata, config = saved(name, tmp_path)
    lie = json.dumps({**config, key: 10_001})
    assert f"{key} 10001, expected at most 10000" in refused(kind, weights, metadata, lie, tmp_path)
    save_file(weights, tmp_path / "long", {**metadata, "model": json.dumps({**config, key: 10_000})})
    kind.load(tmp_path / "long")


@pytest.mark.usefixtures("little_memory")
def test_an_encoder_of_ones_own_is_asked_for_no_large_image(tmp_path: pathlib.Path) -> None:
    """Whether its features grow with the image or not, and also where it cannot take zero images."""
    pooled = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # noqa: E731
    grown = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())  # noqa: E731
    for encoder in (pooled, grown):
        model = Captioner((1, 8, 8), WORDS, encoder=encoder(), hidden_size=8)
        model.save(tmp_path / "good")
        weights, metadata = load_file(tmp_path / "good"), load_metadata(tmp_path / "good")
        config = json.loads(metadata["model"])
        assert Captioner.load(tmp_path / "good", encoder=encoder()).feature_shape == model.feature_shape
        lies: list[tuple[str, Any]] = [
            ("image_shape", lie) for lie in ([1, 16384, 16384], [1, 2**20, 2**20], 7, [1, 8])
        ]
        lies += [("hidden_size", 40_000), ("hidden_size", 4), ("embedding_size", 2**20), ("num_layers", 2**20)]
        for key, lie in lies:
            text = json.dumps({**config, key: lie})
            save_file(weights, tmp_path / "lie", {**metadata, "model": text})
            if encoder is pooled and lie == [1, 16384, 16384]:  # such images have features of the same size
                assert Captioner.load(tmp_path / "lie", encoder=encoder()).image_shape == (1, 16384, 16384)
                continue
            with pytest.raises(ValueError, match=r"lie: the file is damaged: ."):
                Captioner.load(tmp_path / "lie", encoder=encoder())
