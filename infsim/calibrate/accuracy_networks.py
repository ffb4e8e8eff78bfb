"""The networks of the accuracy ladder: how they are built, trained and compressed.

Sizes go from a softmax regression to a convolutional network with four exits, each exit a model
of its own. Everything is plain torch; importing this module does not import it.
"""

# mypy: disable-error-code="import-not-found, no-untyped-call"
# torch is an extra, and typed in part; where it is missing, its types are unknown

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

CLASSES = 10
SIDE = 28
BATCH = 128
LEARNING_RATE = 2e-3


@dataclass
class Network:
    """A chain of stages; after each of them a head may answer (an exit)."""

    stages: list[Module]
    heads: list[Module]

    def logits(self, images: Tensor) -> list[Tensor]:
        """Return the logits of every exit, each (n, classes)."""
        answers = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            images = stage(images)
            answers.append(head(images))
        return answers

    def until(self, exits: int) -> Module:
        """Return the modules that run when the answer of an exit is awaited (1 is the first)."""
        from torch import nn

        return nn.ModuleList(self.stages[:exits] + self.heads[:exits])

    def all(self) -> Module:
        return self.until(len(self.heads))


@dataclass(frozen=True)
class Recipe:
    """How one network is built, and for how many epochs it is trained."""

    epochs: int
    build: Callable[[], Network]


def _dense(*widths: int) -> Network:
    """Perceptron with hidden layers of these widths; without any, softmax regression."""
    from torch import nn

    layers: list[Module] = [nn.Flatten()]
    inputs = SIDE * SIDE
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return Network([nn.Sequential(*layers)], [nn.Linear(inputs, CLASSES)])


def _convolution(inputs: int, outputs: int, stride: int = 2) -> Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _pooled_head(channels: int) -> Module:
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES))


def _cnn() -> Network:
    from torch import nn

    stages = (_convolution(*pair) for pair in ((1, 16), (16, 32), (32, 64)))
    return Network([nn.Sequential(*stages)], [_pooled_head(64)])


def _cnn_with_exits() -> Network:
    from torch import nn

    stages = [
        _convolution(1, 9),
        _convolution(9, 40),
        _convolution(40, 20),
        # the last stage does most of the work, as in networks that are worth leaving early
        nn.Sequential(_convolution(20, 96, stride=1), _convolution(96, 96, stride=1)),
    ]
    return Network(stages, [_pooled_head(channels) for channels in (9, 40, 20, 96)])


LADDER = {
    # two epochs only: the bottom of a ladder is a model that is plainly weaker
    "softmax": Recipe(2, _dense),
    "mlp32": Recipe(12, lambda: _dense(32)),
    "mlp128": Recipe(12, lambda: _dense(128)),
    "mlp512x2": Recipe(8, lambda: _dense(512, 512)),
    "cnn": Recipe(8, _cnn),
    "cnn4": Recipe(8, _cnn_with_exits),
}


def train(
    recipe: Recipe, images: NDArray[np.float32], labels: NDArray[np.uint8], seed: int
) -> Network:
    """Train one network with Adam and a cosine schedule; the losses of its exits are summed."""
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    network = recipe.build()
    inputs, targets = torch.tensor(images), torch.tensor(labels, dtype=torch.long)
    optimizer = torch.optim.Adam(network.all().parameters(), LEARNING_RATE)
    steps = recipe.epochs * math.ceil(len(targets) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(targets)).split(BATCH):
            optimizer.zero_grad()
            answers = network.logits(inputs[batch])
            torch.stack([cross_entropy(a, targets[batch]) for a in answers]).sum().backward()
            optimizer.step()
            schedule.step()
    return _deployed(network)


def _deployed(network: Network) -> Network:
    """Fold every batch normalisation into the convolution before it, as a server would."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    network.all().eval()
    for block in list(network.all().modules()):
        if not isinstance(block, nn.Sequential):
            continue
        if isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            del block[1]
    return network


def rounded(network: Network, bits: int) -> Network:
    """Return a copy with weights rounded to ``2^bits - 1`` levels per output channel.

    Round to nearest on a symmetric grid whose end is the largest weight of the channel, without
    any data or retraining; biases and activations stay in float32.
    """
    import torch

    network = copy.deepcopy(network)
    top = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for weight in _matrices(network.all()):
            flat = weight.view(len(weight), -1)
            step = flat.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / top
            flat.copy_((flat / step).round() * step)
    return network


def predict(network: Network, images: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """Return the class probabilities of every exit, each (n, classes)."""
    import torch

    with torch.no_grad():
        answers = network.logits(torch.tensor(images))
    return [torch.softmax(logits.double(), dim=1).numpy() for logits in answers]


def size(module: Module, bits: int = 32) -> tuple[int, int]:
    """Return the number of parameters, and bytes with matrices in ``bits`` and the rest in 32.

    Below 32 bits every output channel of a matrix has a float32 scale besides.
    """
    parameters = sum(p.numel() for p in module.parameters())
    matrices = list(_matrices(module))
    packed = sum(m.numel() for m in matrices)
    scales = sum(len(m) for m in matrices) if bits < 32 else 0
    return parameters, math.ceil(packed * bits / 8) + 4 * (parameters - packed + scales)


def _matrices(module: Module) -> Iterator[Tensor]:
    return (p for p in module.parameters() if p.dim() > 1)


def multiply_accumulates(network: Network) -> list[int]:
    """Return the multiply-accumulates of one image up to and with each exit (cumulative)."""
    import torch

    total = 0

    def count(module: Any, _: object, output: Tensor) -> None:
        nonlocal total
        # a weight is used once per position of the output: one for a matrix, h x w for a filter
        total += module.weight.numel() * output[0, 0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.all().modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    ]
    image, cumulative = torch.zeros(1, 1, SIDE, SIDE), []
    for stage, head in zip(network.stages, network.heads, strict=True):
        image = stage(image)
        head(image)
        cumulative.append(total)
    for hook in hooks:
        hook.remove()
    return cumulative
