"""pydl.models.CharLM: what it computes, how it writes, and that training learns; against NumPy and against itself."""

from __future__ import annotations

import gc
import json
import math
import os
import pathlib
from typing import Any

import numpy as np
import pytest

import pydl
from pydl import _C, nn
from pydl.models.char_lm import CharLM
from pydl.models.sampling import Sampler
from pydl.serialization import load_file, load_metadata, save_file
from pydl.text import CharVocabulary, ChunkStream, read_text
from pydl.train.char_lm import CharLMTrainer, DivergedError, SavedRun, TrainingOptions, evaluate

CELLS = ("lstm", "gru", "rnn")
TEXT = "to be, or not to be, that is the question: whether 'tis nobler in the mind to suffer "


def small_model(cell: str = "lstm", **more: Any) -> CharLM:
    pydl.manual_seed(5)
    return CharLM(TEXT, cell=cell, **{"hidden_size": 12, "num_layers": 2, "embedding_size": 7, **more})


def ids_of(model: CharLM, *texts: str) -> Any:
    return pydl.asarray(np.stack([model.vocabulary.encode(text) for text in texts]))


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("cell", CELLS)
def test_state_carries_everything(cell: str) -> None:
    model = small_model(cell).eval()
    ids = ids_of(model, "to be or not", "the question")
    whole, end = model(ids)
    first, state = model(ids[:, :5])
    second, last = model(ids[:, 5:], state)
    joined = np.concatenate([first.detach().numpy(), second.detach().numpy()], axis=1)
    np.testing.assert_allclose(joined, whole.detach().numpy(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(parts(last), parts(end), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert whole.shape == (2, 12, len(model.vocabulary))


@pytest.mark.parametrize("cell", CELLS)
def test_lengths_end_a_row_early(cell: str) -> None:
    model = small_model(cell).eval()
    ids = ids_of(model, "to be or not", "the question")
    _, short = model(ids, lengths=pydl.asarray(np.array([12, 4])))
    _, alone = model(ids[1:, :4])
    for ours, theirs in zip(parts(short), parts(alone), strict=True):
        np.testing.assert_allclose(ours[:, 1:].detach().numpy(), theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_embedding_is_one_hot_times_table(cell: str) -> None:
    model = small_model(cell).eval()
    ids = ids_of(model, "to be or not", "the question")
    one_hot = pydl.take(pydl.eye(len(model.vocabulary)), ids.reshape((-1,)), axis=0).reshape((2, 12, -1))
    hidden, _ = model.rnn(pydl.permute_dims(one_hot @ model.embedding.weight, (1, 0, 2)))
    expected = pydl.permute_dims(model.output(hidden), (1, 0, 2))
    np.testing.assert_allclose(model(ids)[0].detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_loss_is_the_cross_entropy_of_the_logits(cell: str) -> None:
    model = small_model(cell).eval()
    inputs, targets = ids_of(model, "to be or not", "the question"), ids_of(model, "o be or not ", "he question:")
    logits = model(inputs)[0].detach().numpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, targets.numpy()[..., None], -1).mean()
    assert model.loss(inputs, targets)[0].item() == pytest.approx(expected, rel=1e-6)


def test_first_loss_is_log_of_the_vocabulary() -> None:
    model = small_model()
    assert evaluate(model, model.vocabulary.encode(TEXT)) == pytest.approx(math.log(len(model.vocabulary)), rel=0.1)


def test_dropout_acts_in_training_only() -> None:
    model = small_model(dropout=0.5, num_layers=1)
    ids = ids_of(model, "to be")
    assert (model(ids)[0].detach().numpy() != model(ids)[0].detach().numpy()).any()
    model.eval()
    assert (model(ids)[0].detach().numpy() == model(ids)[0].detach().numpy()).all()


def test_evaluate_scores_every_character_of_a_short_text() -> None:
    model = small_model().eval()
    ids = model.vocabulary.encode("to be or not to be")
    logits = model(pydl.asarray(ids[None, :-1]))[0].detach().numpy()[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -log_p[np.arange(len(ids) - 1), ids[1:]].mean()
    assert evaluate(model, ids, batch_size=50, seq_length=50) == pytest.approx(expected, rel=1e-6)
    assert evaluate(model, ids, batch_size=1, seq_length=4) == pytest.approx(expected, rel=1e-6)
    model.train()
    evaluate(model, ids)
    assert model.training


# Drawing


def shares(sampler: Sampler, logits: np.ndarray, count: int = 20_000) -> np.ndarray:
    drawn = [sampler(logits, (i + 0.5) / count) for i in range(count)]
    return np.bincount(drawn, minlength=logits.size) / count


def test_sampler_draws_by_softmax_at_any_temperature(rng: np.random.Generator) -> None:
    logits = rng.normal(size=9).astype(np.float32) * 2
    for temperature in (0.3, 1.0, 2.5):
        p = np.exp(logits.astype(np.float64) / temperature)
        np.testing.assert_allclose(shares(Sampler(temperature), logits), p / p.sum(), atol=1e-4)
    assert shares(Sampler(0.0), logits)[logits.argmax()] == 1.0
    assert shares(Sampler(1e-320), logits)[logits.argmax()] == 1.0


def test_sampler_keeps_the_top(rng: np.random.Generator) -> None:
    p = np.array([0.05, 0.4, 0.15, 0.3, 0.1])
    logits = np.log(p).astype(np.float32)
    for keywords, kept in [
        ({"top_k": 1}, [1]),
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 99}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.01}, [1]),
        ({"top_p": 0.6}, [1, 3]),
        ({"top_p": 0.8}, [1, 2, 3]),
        ({"top_p": 1.0}, [0, 1, 2, 3, 4]),
        ({"top_k": 3, "top_p": 0.5}, [1, 3]),  # 0.4 / 0.85 is less than a half
    ]:
        expected = np.zeros(5)
        expected[kept] = p[kept] / p[kept].sum()
        np.testing.assert_allclose(shares(Sampler(**keywords), logits), expected, atol=1e-4, err_msg=str(keywords))


def test_sampler_at_its_edges() -> None:
    just_below_one = float(np.nextafter(1.0, 0.0))
    never = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    assert {Sampler(1.0)(never, u) for u in (0.0, 0.5, just_below_one)} == {1}
    assert Sampler(0.0)(np.zeros(4, np.float32), 0.9) == 0
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="diverge"):
            Sampler()(np.array([0.0, bad], np.float32), 0.5)
    for keywords in (
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ):
        with pytest.raises(ValueError, match="Sampler"):
            Sampler(**keywords)


# Writing


@pytest.mark.parametrize("cell", CELLS)
def test_greedy_writing_against_the_whole_text_read_again(cell: str) -> None:
    model = small_model(cell).eval()
    text = "to be"
    for _ in range(12):
        logits = model(ids_of(model, text))[0].detach().numpy()[0, -1]
        text += model.vocabulary[int(logits.argmax())]
    assert model.generate("to be", 12, temperature=0) == text[5:]
    assert model.train().generate("to be", 12, temperature=0) == text[5:]


@pytest.mark.parametrize("cell", CELLS)
def test_writing_is_repeatable_and_can_go_on(cell: str, threads: None) -> None:
    model = small_model(cell, hidden_size=64, embedding_size=64)
    options = {"temperature": 1.3, "top_k": 12, "top_p": 0.95}
    text = model.generate("to ", 300, seed=7, **options)
    assert len(text) == 300
    assert model.generate("to ", 300, seed=8, **options) != text
    for count in (1, 2, 3, 8):
        pydl.set_num_threads(count)
        assert model.generate("to ", 300, seed=7, **options) == text
    assert model.generate("to ", 100, seed=7, **options) == text[:100]
    endless = model.stream("to ", seed=7, **options)
    assert "".join(next(endless) for _ in range(300)) == text
    first = model.stream("to ", 9, temperature=0)
    begun = "".join(first)
    assert begun + model.generate(length=9, temperature=0, state=first.state) == model.generate(
        "to ", 18, temperature=0
    )
    assert begun + model.generate(begun[-3:], 0, state=first.state) == begun


def test_writing_leaves_the_default_generator_alone() -> None:
    model = small_model()
    pydl.manual_seed(3)
    expected = pydl.rand(3).numpy().tolist()
    pydl.manual_seed(3)
    model.generate("to be", 20)
    assert pydl.rand(3).numpy().tolist() == expected


def test_writing_refuses() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"'#' \(U\+0023\) at position 2"):
        model.generate("to#")
    with pytest.raises(ValueError, match="length -1"):
        model.generate("to", -1)
    with pytest.raises(ValueError, match="seed -1"):
        model.generate("to", seed=-1)
    assert model.generate("to", 0) == ""
    assert len(model.generate(length=3)) == 3
    with pytest.raises(ValueError, match="expected one of lstm, gru, rnn"):
        CharLM(TEXT, cell="transformer")


# Files


@pytest.mark.parametrize("cell", CELLS)
def test_saved_and_loaded(cell: str, tmp_path: pathlib.Path) -> None:
    model = small_model(cell, dropout=0.25)
    model.save(tmp_path / "model.safetensors")
    loaded = CharLM.load(tmp_path / "model.safetensors")
    assert loaded.vocabulary == model.vocabulary
    assert repr(loaded) == repr(model)
    assert loaded.generate("to be", 50, seed=1) == model.generate("to be", 50, seed=1)


def test_damaged_and_foreign_files(tmp_path: pathlib.Path) -> None:
    good, path = tmp_path / "good", tmp_path / "bad"
    small_model().save(good)
    tensors, metadata = load_file(good), load_metadata(good)
    config = json.loads(metadata["model"])
    lies = [
        {"format": "other.1"},
        {"model": "{"},
        {"model": "[]"},
        {"model": "3"},
        *(
            {"model": json.dumps({**config, **change})}
            for change in (
                {"hidden_size": 10**12},
                {"num_layers": 10**9},
                {"num_layers": "2"},
                {"embedding_size": 8},
                {"vocabulary": config["vocabulary"] + "#"},
                {"vocabulary": "aa"},
                {"vocabulary": 7},
                {"cell": "gru"},
                {"cell": ["lstm"]},
                {"dropout": "much"},
                {"unknown": 1},
            )
        ),
        *({"model": json.dumps({k: v for k, v in config.items() if k != key})} for key in config),
    ]
    for lie in lies:
        save_file(tensors, path, {**metadata, **lie})
        with pytest.raises(ValueError, match="bad"):
            CharLM.load(path)
    for missing in tensors:
        save_file({name: tensor for name, tensor in tensors.items() if name != missing}, path, metadata)
        with pytest.raises(ValueError, match="bad"):
            CharLM.load(path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="another kind"):
        CharLM.load(path)
    path.write_bytes(good.read_bytes()[:-9])
    with pytest.raises(ValueError, match="bad"):
        CharLM.load(path)


# Training

QUICK = {"hidden": 16, "layers": 1, "seq_length": 8, "batch_size": 4, "lr": 1e-2}


@pytest.mark.parametrize("cell", CELLS)
def test_a_repeating_text_is_learned(cell: str, tmp_path: pathlib.Path) -> None:
    text = "pack my box with five dozen jugs" * 40
    trainer = CharLMTrainer(
        text, tmp_path / "run", TrainingOptions(cell=cell, max_iters=400, **{**QUICK, "hidden": 32})
    )
    trainer.fit()
    assert trainer.history[-1]["val_loss"] < 0.1
    assert trainer.model.generate(text[:32], 64, temperature=0) == text[:64]
    assert CharLM.load(tmp_path / "run/checkpoint.safetensors").generate("w", 50) == trainer.model.generate("w", 50)


def test_training_is_truncated_bptt_by_hand(tmp_path: pathlib.Path) -> None:
    options = TrainingOptions(max_iters=7, grad_clip=0.02, lr_decay=0.5, val_frac=0.0, **QUICK)
    text = TEXT * 2  # five chunks a pass: the learning rate is halved, and the state set back, within the run
    trainer = CharLMTrainer(text, tmp_path / "run", options)
    pydl.manual_seed(options.seed)
    model = CharLM(text, cell="lstm", hidden_size=16, num_layers=1)
    optimizer = pydl.optim.Adam(model.parameters(), lr=1e-2)
    ids = model.vocabulary.encode(text)
    row = (len(ids) - 1) // 4
    state, position = None, 0
    for step in range(7):
        if step % 5 == 0:
            state, position = None, 0
        window = np.stack([ids[b * row + position : b * row + position + 9] for b in range(4)])
        logits, state = model(pydl.asarray(window[:, :-1].copy()), state)
        loss = nn.functional.cross_entropy(logits.reshape((32, -1)), pydl.asarray(window[:, 1:].reshape(-1)))
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            parameter.grad.copy_(pydl.clip(parameter.grad, -0.02, 0.02))
        optimizer.param_groups[0]["lr"] = 1e-2 * 0.5 ** (step // 5)
        optimizer.step()
        state, position = tuple(part.detach() for part in state), position + 8
    trainer.fit()
    assert len(trainer.stream) == 5
    for name, weight in model.state_dict().items():
        ours = trainer.model.state_dict()[name].numpy()
        np.testing.assert_allclose(ours, weight.numpy(), rtol=2e-4, atol=2e-6, err_msg=name)


def test_memory_does_not_grow_with_the_text(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    def peak(length: int) -> int:
        text = "".join(rng.choice(list("abcdefgh"), length))
        options = TrainingOptions(epochs=1, val_frac=0.0, **QUICK)
        trainer = CharLMTrainer(text, tmp_path / str(length), options)
        gc.collect()  # what other tests left behind is not this one's
        _C.reset_peak_memory()
        before = _C.memory_stats()["allocated"]
        trainer.fit()
        return _C.memory_stats()["peak"] - before

    assert peak(16_000) <= peak(2_000) + 64 * 1024  # what the counts of a thread may be late by


def test_records(tmp_path: pathlib.Path) -> None:
    options = TrainingOptions(max_iters=10, eval_every=4, sample_every=5, val_frac=0.2, **QUICK)
    trainer = CharLMTrainer(TEXT * 4, tmp_path, options)
    trainer.fit()
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "iteration,epoch,learning_rate,train_loss,train_bpc,val_loss,val_bpc"
    rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    assert [row[0] for row in rows] == [4, 8, 10]
    for row in rows:
        assert row[4] == pytest.approx(row[3] / math.log(2), rel=1e-4)
        assert row[6] == pytest.approx(row[5] / math.log(2), rel=1e-4)
    final = evaluate(trainer.model, trainer.validation, 4, 8)
    assert rows[-1][5] == pytest.approx(final, rel=1e-4)
    samples = (tmp_path / "samples.txt").read_text()
    assert [line for line in samples.splitlines() if line.startswith("---")] == [
        f"--- iteration {i}, epoch {i / len(trainer.stream):.2f} ---" for i in (5, 10)
    ]


def test_divergence_is_told_and_overwrites_nothing(tmp_path: pathlib.Path) -> None:
    trainer = CharLMTrainer(TEXT * 4, tmp_path, TrainingOptions(max_iters=50, **QUICK))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pydl.no_grad():
        trainer.model.output.bias.fill_(math.nan)
    with pytest.raises(DivergedError, match=r"output\.bias is not finite"):
        trainer.save()
    with pytest.raises(DivergedError, match=r"loss is nan at iteration 1; use a lower learning rate"):
        trainer.fit()
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": 0}, {"layers": -1}, {"embed": 0}, {"dropout": 1.0}, {"seq_length": 0}, {"batch_size": 0},
        {"epochs": 0}, {"max_iters": 0}, {"lr": 0.0}, {"lr": math.nan}, {"lr_decay": 0.0}, {"lr_decay": 1.5},
        {"grad_clip": -1.0},
        {"val_frac": 1.0}, {"seed": -1}, {"eval_every": 0}, {"sample_every": -3}, {"save_every": 0}, {"cell": "x"},
    ],
)  # fmt: skip
def test_options_outside_their_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingOptions(**wrong)


def test_how_far_a_run_goes() -> None:
    assert TrainingOptions().total_iterations(7) == 70
    assert TrainingOptions(epochs=2).total_iterations(7) == 14
    assert TrainingOptions(max_iters=1000).total_iterations(7) == 1000
    assert TrainingOptions(max_iters=10, epochs=2).total_iterations(7) == 10
    changed = TrainingOptions(max_iters=10).with_goal({"epochs": 3})
    assert (changed.epochs, changed.max_iters) == (3, None)


def test_folder_with_a_run_is_left_alone(tmp_path: pathlib.Path) -> None:
    CharLMTrainer(TEXT * 4, tmp_path, TrainingOptions(**QUICK))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError):
        CharLMTrainer(TEXT * 4, tmp_path, TrainingOptions(**QUICK))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_resume_refuses_another_text_or_another_model(tmp_path: pathlib.Path) -> None:
    CharLMTrainer(TEXT * 4, tmp_path, TrainingOptions(**QUICK))
    saved = SavedRun.read(tmp_path)
    with pytest.raises(ValueError, match="text is not the one"):
        CharLMTrainer.resume(saved, TEXT * 5)
    with pytest.raises(ValueError, match=r"hidden 17, but the run has 16"):
        CharLMTrainer.resume(saved, TEXT * 4, {"hidden": 17})
    assert CharLMTrainer.resume(saved, TEXT * 4, {"hidden": 16, "max_iters": 3}).total == 3


def test_text_too_short(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"got a text of 9 characters, 9 of them to train on, expected at least 33"):
        CharLMTrainer("too short", tmp_path / "a", TrainingOptions(**QUICK))
    with pytest.raises(ValueError, match=r"holds back 0, expected 2 or more"):
        CharLMTrainer(TEXT, tmp_path / "b", TrainingOptions(**{**QUICK, "val_frac": 0.001}))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif("PYDL_DATA" not in os.environ, reason="PYDL_DATA names the folder of tinyshakespeare.txt")
def test_tinyshakespeare_in_one_epoch(tmp_path: pathlib.Path) -> None:
    text = read_text(pathlib.Path(os.environ["PYDL_DATA"], "tinyshakespeare.txt"))
    trainer = CharLMTrainer(text, tmp_path / "run", TrainingOptions(epochs=1))
    trainer.fit()
    assert len(trainer.stream) == 423
    assert trainer.history[-1]["val_loss"] <= 1.92


def test_stream_in_a_loop_of_ones_own() -> None:
    vocabulary = CharVocabulary.from_text(TEXT)
    model, stream = CharLM(vocabulary, hidden_size=8, num_layers=1), ChunkStream(vocabulary.encode(TEXT), 2, 10)
    optimizer = pydl.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        state = None
        for inputs, targets in stream:
            optimizer.zero_grad()
            loss, state = model.loss(pydl.asarray(inputs), pydl.asarray(targets), state)
            loss.backward()
            state = tuple(part.detach() for part in state)
            optimizer.step()
            losses.append(loss.item())
    assert stream.epoch == 30
    assert losses[-1] < 0.6 * losses[0]
