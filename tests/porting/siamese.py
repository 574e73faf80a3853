"""Whether two pictures show the same: one network for both, and distances of what it makes of them."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class SiameseNetwork(nn.Module):
    def __init__(self):
        super(SiameseNetwork, self).__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(2, 4),
            nn.PReLU(),
            nn.AdaptiveAvgPool2d((2, 2)),
        )
        self.fc_in_features = 4 * 2 * 2
        self.fc = nn.Sequential(
            nn.Linear(self.fc_in_features * 2, 8),
            nn.ReLU(inplace=True),
            nn.Linear(8, 1),
        )
        self.sigmoid = nn.Sigmoid()
        self.features.apply(self.init_weights)
        self.fc.apply(self.init_weights)

    def init_weights(self, m):
        if isinstance(m, nn.Linear):
            torch.nn.init.xavier_uniform_(m.weight)
            m.bias.data.fill_(0.01)

    def forward_once(self, x):
        output = self.features(x)
        output = output.view(output.size()[0], -1)
        return output

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        output = torch.cat((output1, output2), 1)
        return self.sigmoid(self.fc(output)), output1, output2


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, output1, output2, label):
        distance = F.pairwise_distance(output1, output2, keepdim=True)
        near = (1 - label) * torch.pow(distance, 2)
        far = label * torch.pow(torch.clamp(self.margin - distance, min=0.0), 2)
        return torch.mean(near + far)


def build():
    return SiameseNetwork()


def pairs(images, labels):
    x = torch.from_numpy(images)
    same = torch.from_numpy((labels[:4] % 2 == labels[4:] % 2).astype("float64"))
    return x[:4], x[4:], same


def train(model, images, labels):
    images_1, images_2, targets = pairs(images, labels)
    criterion, contrastive, triplet = nn.BCELoss(), ContrastiveLoss(), nn.TripletMarginLoss(margin=1.0, p=2)
    optimizer = optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, momentum=0.5)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    model.train()
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        outputs, one, two = model(images_1, images_2)
        outputs = outputs.squeeze()
        loss = criterion(outputs, targets) + 0.1 * contrastive(one, two, targets.unsqueeze(1))
        loss = loss + 0.1 * triplet(one, two, torch.roll(two, 1, dims=0))
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def predict(model, images, labels):
    model.eval()
    images_1, images_2, targets = pairs(images, labels)
    with torch.no_grad():
        outputs = model(images_1, images_2)[0].squeeze()
        pred = torch.where(outputs > 0.5, 1, 0)
        correct = pred.eq(targets.view_as(pred)).sum().item()
        embedded = model.forward_once(images_1)
        return [outputs.numpy(), correct, torch.cdist(embedded, embedded).numpy(), F.cosine_similarity(
            embedded[:1], embedded).numpy()]  # fmt: skip
