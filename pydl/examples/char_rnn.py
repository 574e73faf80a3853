"""A character-level LSTM with layers and autograd: `python -m pydl.examples.char_rnn [FILE]`; see `pydl charlm` too."""

import pydl
from pydl import nn, optim
from pydl.examples._shared import run_on_text
from pydl.text import CharVocabulary, ChunkStream


class CharRNN(nn.Module):
    def __init__(self, characters: int, hidden: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, hidden)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, characters)

    def forward(self, ids: pydl.Tensor, state: object = None) -> tuple[pydl.Tensor, object]:  # (B, T) -> (B, T, V)
        hidden, state = self.lstm(self.embedding(ids), state)
        return self.output(hidden), state

    @pydl.no_grad()
    def sample(self, length: int, generator: pydl.Generator) -> list[int]:
        ids, state = [0], None
        for _ in range(length):
            logits, state = self(pydl.asarray([ids[-1:]]), state)
            ids.append(pydl.multinomial(pydl.softmax(logits[0, -1], -1), 1, generator=generator).item())
        return ids[1:]


def main(text: str, epochs: int = 3, batch: int = 50, steps: int = 50) -> None:
    pydl.manual_seed(0)
    vocabulary = CharVocabulary.from_text(text)
    stream, model, state = ChunkStream(vocabulary.encode(text), batch, steps), CharRNN(len(vocabulary)), None
    optimizer, cross_entropy = optim.Adam(model.parameters(), lr=2e-3), nn.CrossEntropyLoss()
    while stream.epoch < epochs:
        inputs, targets = map(pydl.asarray, next(stream))
        logits, state = model(inputs, state)
        state = tuple(part.detach() for part in state) if stream.position else None  # a new pass starts from zeros
        optimizer.zero_grad()
        loss = cross_entropy(logits.reshape((-1, len(vocabulary))), targets.reshape((-1,)))
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), 5.0)
        optimizer.step()
        if stream.position % max(1, len(stream) // 4) == 0:
            epoch, sample = stream.epoch + stream.position / len(stream), model.sample(200, pydl.Generator(0))
            print(f"epoch {epoch:.2f}: loss {loss.item():.3f}", vocabulary.decode(sample), sep="\n", flush=True)


if __name__ == "__main__":
    run_on_text(main, 1_000_000)
