"""A language model of a transformer encoder with sines for positions."""

import math
import os
from tempfile import TemporaryDirectory

import torch
from torch import nn, Tensor
from torch.nn import TransformerEncoder, TransformerEncoderLayer


class TransformerModel(nn.Module):
    def __init__(self, ntoken: int, d_model: int, nhead: int, d_hid: int, nlayers: int, dropout: float = 0.5):
        super().__init__()
        self.model_type = "Transformer"
        self.pos_encoder = PositionalEncoding(d_model, dropout)
        encoder_layers = TransformerEncoderLayer(d_model, nhead, d_hid, dropout)
        self.transformer_encoder = TransformerEncoder(encoder_layers, nlayers, enable_nested_tensor=False)
        self.embedding = nn.Embedding(ntoken, d_model)
        self.d_model = d_model
        self.linear = nn.Linear(d_model, ntoken)
        self.init_weights()

    def init_weights(self) -> None:
        initrange = 0.1
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.linear.bias.data.zero_()
        self.linear.weight.data.uniform_(-initrange, initrange)
        for p in self.transformer_encoder.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, src: Tensor, src_mask: Tensor = None) -> Tensor:
        src = self.embedding(src) * math.sqrt(self.d_model)
        src = self.pos_encoder(src)
        if src_mask is None:
            src_mask = nn.Transformer.generate_square_subsequent_mask(len(src))
        output = self.transformer_encoder(src, src_mask)
        return self.linear(output)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 500):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pe[: x.size(0)]
        return self.dropout(x)


def build():
    return TransformerModel(ntoken=10, d_model=16, nhead=2, d_hid=32, nlayers=2, dropout=0.0)


def train(model, images, labels):
    data = torch.from_numpy(labels).view(4, -1).t().contiguous()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.98), eps=1e-9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 4))
    src_mask = torch.triu(torch.full((data.size(0) - 1, data.size(0) - 1), float("-inf")), diagonal=1)
    losses = []
    model.train()
    for _ in range(4):
        output = model(data[:-1], src_mask)
        loss = criterion(output.view(-1, 10), data[1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    with TemporaryDirectory() as tempdir:
        path = os.path.join(tempdir, "checkpoint.pt")
        torch.save(
            {"epoch": 4, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}, path
        )
        checkpoint = torch.load(path, weights_only=True, map_location=torch.device("cpu"))
    assert checkpoint["epoch"] == 4
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    return [*losses, optimizer.param_groups[0]["lr"], math.exp(losses[-1])]


def predict(model, images, labels):
    model.eval()
    with torch.inference_mode():
        output = model(torch.from_numpy(labels).view(4, -1).t())
        confidence, word = output.softmax(dim=-1).max(dim=-1)
        return [output.numpy(), confidence.numpy(), word.numpy()]
