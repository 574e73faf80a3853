"""LeNet for small colour images."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, self.num_flat_features(x))
        x = torch.flatten(x, 1)
        x = self.dropout(F.relu(self.fc1(x)))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return F.log_softmax(x, dim=1)

    def num_flat_features(self, x):
        num_features = 1
        for s in x.size()[1:]:
            num_features *= s
        return num_features


def build():
    torch.manual_seed(1)
    return Net()


def train(model, images, labels):
    inputs, labels = torch.tensor(images), torch.tensor(labels)
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    losses = []
    running_loss = 0.0
    for epoch in range(2):
        model.train()
        for batch_idx, (data, target) in enumerate(zip(torch.split(inputs, 4), labels.split(4))):
            optimizer.zero_grad()
            output = model(data)
            loss = F.nll_loss(output, target)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * data.size(0)
            losses.append(loss.item())
        scheduler.step()
    losses.append(running_loss)
    losses.append(optimizer.param_groups[0]["lr"])
    return losses


@torch.no_grad()
def predict(model, images, labels):
    model.eval()
    outputs = model(torch.as_tensor(images))
    target = torch.as_tensor(labels)
    test_loss = F.nll_loss(outputs, target, reduction="sum").item()
    pred = outputs.argmax(dim=1, keepdim=True)
    correct = pred.eq(target.view_as(pred)).sum().item()
    _, predicted = torch.max(outputs.data, 1)
    assert (predicted == pred.squeeze(1)).all()
    return [outputs.numpy(), test_loss, correct]
