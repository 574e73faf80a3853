"""Larger pictures out of small ones, by convolutions and a shuffle of channels into pixels."""

from math import log10

import torch
import torch.nn as nn
import torch.nn.init as init
import torch.optim as optim


class Net(nn.Module):
    def __init__(self, upscale_factor):
        super(Net, self).__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(1, 8, (5, 5), (1, 1), (2, 2))
        self.conv2 = nn.Conv2d(8, 8, (3, 3), (1, 1), (1, 1))
        self.conv3 = nn.Conv2d(8, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self._initialize_weights()

    def forward(self, x):
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x))
        x = self.pixel_shuffle(self.conv3(x))
        return x

    def _initialize_weights(self):
        init.orthogonal_(self.conv1.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv2.weight, init.calculate_gain("relu"))
        init.orthogonal_(self.conv3.weight)


def build():
    return Net(upscale_factor=2)


def small(images):
    target = torch.from_numpy(images)
    return nn.functional.interpolate(target, scale_factor=0.5, mode="bilinear", align_corners=False), target


def train(model, images, labels):
    criterion = nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        input, target = small(images)
        optimizer.zero_grad()
        loss = criterion(model(input), target)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


def predict(model, images, labels):
    with torch.no_grad():
        input, target = small(images)
        prediction = model(input)
        mse = nn.MSELoss()(prediction, target)
        return [prediction.clip(0, 1).mul(255.0).numpy(), 10 * log10(1 / mse.item())]
