"""A variational autoencoder of small pictures."""

import numpy as np
import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

draws = np.random.default_rng(7)


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 20)
        self.fc21 = nn.Linear(20, 5)
        self.fc22 = nn.Linear(20, 5)
        self.fc3 = nn.Linear(5, 20)
        self.fc4 = nn.Linear(20, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        eps.copy_(torch.from_numpy(draws.normal(size=std.shape)))  # the same numbers in both libraries
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def build():
    return VAE().to(torch.device("cpu"))


def train(model, images, labels):
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    data = torch.from_numpy(images).sigmoid()
    train_loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data, torch.from_numpy(labels)), batch_size=4, shuffle=False
    )
    model.train()
    train_loss, losses = 0, []
    for _ in range(2):
        for x, _ in train_loader:
            optimizer.zero_grad()
            recon_batch, mu, logvar = model(x)
            loss = loss_function(recon_batch, x, mu, logvar)
            loss.backward()
            train_loss += loss.item()
            optimizer.step()
        losses.append(train_loss / len(train_loader.dataset))
    return losses


def predict(model, images, labels):
    model.eval()
    with torch.no_grad():
        x = torch.from_numpy(images).sigmoid()
        recon_batch, mu, logvar = model(x)
        comparison = torch.cat([x[:4], recon_batch.view(len(images), 1, 8, 8)[:4]])
        return [comparison.cpu().numpy(), loss_function(recon_batch, x, mu, logvar).item(), mu.numpy()]
