"""A classifier of small images, as a first tutorial has it."""

import torch
import torch.nn as nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential(
            nn.Linear(8 * 8, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )

    def forward(self, x):
        x = self.flatten(x)
        return self.layers(x)


def build():
    torch.manual_seed(0)
    return NeuralNetwork().to(device)


def train(model, images, labels):
    X, y = torch.from_numpy(images), torch.from_numpy(labels)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-1, momentum=0.9)
    losses = []
    model.train()
    for batch in range(4):
        xb, yb = X[batch * 8 : (batch + 1) * 8].to(device), y[batch * 8 : (batch + 1) * 8].to(device)
        pred = model(xb)
        loss = loss_fn(pred, yb)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def predict(model, images, labels):
    model.eval()
    correct = 0
    with torch.no_grad():
        X, y = torch.tensor(images).to(device), torch.tensor(labels, dtype=torch.long).to(device)
        pred = model(X)
        correct += (pred.argmax(1) == y).type(torch.float).sum().item()
        probabilities = nn.Softmax(dim=1)(pred)
    return [pred.cpu().numpy(), probabilities.numpy(), correct / len(X)]
