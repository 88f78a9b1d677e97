"""The networks of the PyTorch port; the benchmark's reference, not a part of `gm_jax`.

Each is `(channel, classes, side) -> module` for images `[n, channel, side, side]`, with instance
norm.  Names and order of the parameters are those of the golden vectors.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F


def norm(width: int) -> nn.GroupNorm:
    """Instance norm with scale and shift: a group for each channel."""
    return nn.GroupNorm(width, width)


class ConvNet(nn.Module):
    """`depth` blocks of conv 3x3, instance norm, ReLU, 2x2 average pool; then one linear layer."""

    def __init__(self, channel: int, classes: int, side: int, width: int = 128, depth: int = 3):
        super().__init__()
        # One-channel 28x28 images are padded to 32x32, so that both sizes halve evenly.
        first_padding = 3 if (channel, side) == (1, 28) else 1
        blocks: list[nn.Module] = []
        for block in range(depth):
            inputs, padding = (channel, first_padding) if block == 0 else (width, 1)
            blocks += [
                nn.Conv2d(inputs, width, 3, padding=padding),
                norm(width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*blocks)
        last = (side + 2 * (first_padding - 1)) // 2**depth
        self.classifier = nn.Linear(width * last * last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class VGG11(nn.Module):
    """Eight 3x3 convolutions with norm and ReLU, 2x2 max pooling after each stage; a linear layer.

    One-channel images are padded by 3 at first: 28x28 becomes 32x32.
    """

    STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))

    def __init__(self, channel: int, classes: int, side: int):
        super().__init__()
        layers: list[nn.Module] = []
        inputs, padding = channel, 3 if channel == 1 else 1
        side += 2 * (padding - 1)
        for stage in self.STAGES:
            for width in stage:
                layers += [nn.Conv2d(inputs, width, 3, padding=padding), norm(width), nn.ReLU()]
                inputs, padding = width, 1
            layers.append(nn.MaxPool2d(2))
            side //= 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(inputs * side * side, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Residual(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + x), x by a 1x1 convolution where shapes change."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        projection = [nn.Conv2d(inputs, width, 1, stride, bias=False), norm(width)]
        self.shortcut = nn.Sequential(*(projection if stride > 1 else []))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """A 3x3 convolution, four stages of two residual blocks, 4x4 average pooling, a linear one."""

    def __init__(self, channel: int, classes: int, side: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channel, 64, 3, padding=1, bias=False)
        self.bn1 = norm(64)
        self.layer1 = nn.Sequential(Residual(64, 64, 1), Residual(64, 64, 1))
        self.layer2 = nn.Sequential(Residual(64, 128, 2), Residual(128, 128, 1))
        self.layer3 = nn.Sequential(Residual(128, 256, 2), Residual(256, 256, 1))
        self.layer4 = nn.Sequential(Residual(256, 512, 2), Residual(512, 512, 1))
        last = -(-side // 8) // 4
        self.classifier = nn.Linear(512 * last * last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.classifier(F.avg_pool2d(x, 4).flatten(1))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    "vgg11": VGG11,
    "resnet18": ResNet18,
}
"""By the names of `gm_jax`."""
