"""A tagger of words, one sentence at a time, and a batch of padded sentences."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

torch.manual_seed(1)

training_data = [
    ("The dog ate the apple".split(), ["DET", "NN", "V", "DET", "NN"]),
    ("Everybody read that book".split(), ["NN", "V", "DET", "NN"]),
]
word_to_ix = {}
for sent, _tags in training_data:
    for word in sent:
        if word not in word_to_ix:
            word_to_ix[word] = len(word_to_ix)
tag_to_ix = {"DET": 0, "NN": 1, "V": 2}


def prepare_sequence(seq, to_ix):
    idxs = [to_ix[w] for w in seq]
    return torch.tensor(idxs, dtype=torch.long)


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super(LSTMTagger, self).__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def init_hidden(self):
        weight = next(self.parameters())
        return (weight.new_zeros(1, 1, self.hidden_dim), torch.zeros(1, 1, self.hidden_dim))

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1), self.init_hidden())
        tag_space = self.hidden2tag(lstm_out.view(len(sentence), -1))
        tag_scores = F.log_softmax(tag_space, dim=1)
        return tag_scores

    def forward_batch(self, sentences):
        lengths = torch.tensor([len(s) for s in sentences])
        padded = pad_sequence(sentences, batch_first=True)
        packed = pack_padded_sequence(self.word_embeddings(padded).transpose(0, 1), lengths, enforce_sorted=False)
        packed_out, (h_n, c_n) = self.lstm(packed)
        out, out_lengths = pad_packed_sequence(packed_out, batch_first=True)
        assert out_lengths.tolist() == lengths.tolist()
        return self.hidden2tag(out), h_n[-1]


def build():
    return LSTMTagger(6, 6, len(word_to_ix), len(tag_to_ix))


def train(model, images, labels):
    loss_function = nn.NLLLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for epoch in range(3):
        for sentence, tags in training_data:
            model.zero_grad()
            sentence_in = prepare_sequence(sentence, word_to_ix)
            targets = prepare_sequence(tags, tag_to_ix)
            tag_scores = model(sentence_in)
            loss = loss_function(tag_scores, targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    sentences = [prepare_sequence(s, word_to_ix) for s, _ in training_data[::-1]]
    targets = pad_sequence([prepare_sequence(t, tag_to_ix) for _, t in training_data[::-1]], True, padding_value=-1)
    optimizer.zero_grad()
    scores, last = model.forward_batch(sentences)
    loss = F.cross_entropy(scores.view(-1, 3), targets.view(-1), ignore_index=-1) + last.pow(2).mean()
    loss.backward()
    optimizer.step()
    return [*losses, loss.item()]


def predict(model, images, labels):
    with torch.no_grad():
        scores, last = model.forward_batch([prepare_sequence(s, word_to_ix) for s, _ in training_data])
        tag_scores = model(prepare_sequence(training_data[0][0], word_to_ix))
        return [scores.numpy(), last.numpy(), tag_scores.numpy(), tag_scores.max(1)[1].tolist()]
