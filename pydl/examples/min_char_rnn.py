"""A character-level Elman network from first principles: forward, backpropagation through time, Adagrad, sampling.

No autograd, no layers: two kernels do the steps through time, forward and back; all around them is written out.
The exercise is Karpathy's "The unreasonable effectiveness of recurrent neural networks" (2015). Run it with
`python -m pydl.examples.min_char_rnn [FILE]`; without a file it learns to write Python, from its standard library.
"""

from __future__ import annotations

import math
import time

import pydl
from pydl.examples._shared import run_on_text
from pydl.kernels import rnn_backward, rnn_forward
from pydl.text import CharVocabulary, ChunkStream

HIDDEN = 100  # H, units of the network
STEPS = 25  # T, characters that gradients reach back
RATE = 0.1  # of Adagrad
CLIP = 5.0  # no gradient is larger than this
ITERATIONS = 100_000
REPORTS = 10


class MinCharRNN:
    """h_t = tanh(W_xh x_t + b_xh + W_hh h_{t-1} + b_hh) and p_t = softmax(W_hy h_t + b_y), for one-hot x_t."""

    def __init__(self, vocabulary: CharVocabulary, hidden: int = HIDDEN, seed: int = 0) -> None:
        generator = pydl.Generator(seed)
        size = len(vocabulary)
        self.vocabulary = vocabulary
        self.one_hot = pydl.eye(size)  # row i stands for character i
        self.w_xh = 0.01 * pydl.randn(hidden, size, generator=generator)
        self.w_hh = 0.01 * pydl.randn(hidden, hidden, generator=generator)
        self.w_hy = 0.01 * pydl.randn(size, hidden, generator=generator)
        self.b_xh, self.b_hh, self.b_y = pydl.zeros(hidden), pydl.zeros(hidden), pydl.zeros(size)
        self.parameters = [self.w_xh, self.w_hh, self.w_hy, self.b_xh, self.b_hh, self.b_y]
        self.squares = [pydl.zeros_like(parameter) for parameter in self.parameters]  # Adagrad's memory

    def zero_state(self) -> pydl.Tensor:
        """The state before anything was read, (B, H) for B = 1."""
        return pydl.zeros((1, self.w_hh.shape[0]))

    def loss_and_gradients(
        self, inputs: pydl.Tensor, targets: pydl.Tensor, h0: pydl.Tensor
    ) -> tuple[float, list[pydl.Tensor], pydl.Tensor]:
        """Cross-entropy in nats per character, the gradients of its sum, and the last state. Ids have shape (T,)."""
        cell = (self.w_xh, self.w_hh, self.b_xh, self.b_hh)
        x = pydl.take(self.one_hot, inputs, axis=0).reshape((-1, 1, len(self.vocabulary)))  # (T, 1, V)
        wanted = pydl.take(self.one_hot, targets, axis=0)  # (T, V)
        h, h_n, workspace = rnn_forward(x, h0, *cell)  # (T, 1, H)
        flat = h.reshape((-1, h.shape[-1]))  # (T, H)
        logits = flat @ self.w_hy.T + self.b_y
        weights = pydl.exp(logits - pydl.max(logits, axis=1, keepdims=True))
        p = weights / pydl.sum(weights, axis=1, keepdims=True)
        loss = -pydl.log(pydl.sum(p * wanted, axis=1)).mean().item()

        d_logits = p - wanted  # of the sum over the chunk, as in the original
        d_w_hy = d_logits.T @ flat
        d_b_y = pydl.sum(d_logits, axis=0)
        d_h = (d_logits @ self.w_hy).reshape(h.shape)
        _, _, d_w_xh, d_w_hh, d_b_xh, d_b_hh = rnn_backward(d_h, None, x, h0, *cell, h, workspace)
        return loss, [d_w_xh, d_w_hh, d_w_hy, d_b_xh, d_b_hh, d_b_y], h_n

    def step(self, gradients: list[pydl.Tensor]) -> None:
        """Adagrad (Duchi et al., 2011): the more a weight was moved before, the less it moves now."""
        for parameter, gradient, squares in zip(self.parameters, gradients, self.squares, strict=True):
            gradient = pydl.clip(gradient, -CLIP, CLIP)
            squares.add_(gradient * gradient)
            parameter.add_(-RATE * gradient / pydl.sqrt(squares + 1e-8))

    def sample(self, start: int, length: int, h: pydl.Tensor, seed: int) -> str:
        """What the network writes after character `start` in state `h`."""
        generator, ids = pydl.Generator(seed), [start]
        for _ in range(length):
            x = self.one_hot[ids[-1]].reshape((1, 1, -1))
            _, h, _ = rnn_forward(x, h, self.w_xh, self.w_hh, self.b_xh, self.b_hh)
            weights = pydl.exp(h[0] @ self.w_hy.T + self.b_y)
            ids.append(int(pydl.multinomial(weights / pydl.sum(weights), 1, generator=generator).item()))
        return self.vocabulary.decode(ids[1:])


def main(text: str, iterations: int = ITERATIONS) -> float:
    """Trains and reports; returns the smoothed loss at the end, in nats per character."""
    vocabulary = CharVocabulary.from_text(text)
    model, stream = MinCharRNN(vocabulary), ChunkStream(vocabulary.encode(text), 1, STEPS)
    print(f"{len(text):,} characters, {len(vocabulary)} different; {iterations:,} iterations of {STEPS} characters")
    smooth, begin, h = math.log(len(vocabulary)), time.perf_counter(), model.zero_state()
    for iteration in range(1, iterations + 1):
        chunk = next(stream)
        inputs, targets = pydl.asarray(chunk.inputs[0]), pydl.asarray(chunk.targets[0])
        loss, gradients, h = model.loss_and_gradients(inputs, targets, h)
        model.step(gradients)
        smooth += 0.001 * (loss - smooth)
        if iteration % max(1, iterations // REPORTS) == 0:
            speed = iteration * STEPS / (time.perf_counter() - begin)
            bits = smooth / math.log(2.0)
            print(f"\niteration {iteration:,}: loss {smooth:.3f}, {bits:.3f} bits/char, {speed:,.0f} char/s")
            print(model.sample(int(chunk.targets[0, -1]), 150, h, seed=iteration), flush=True)
        if stream.position == 0:
            h = model.zero_state()  # the next chunk is the first of the text
    return smooth


if __name__ == "__main__":
    run_on_text(main, 300_000)
