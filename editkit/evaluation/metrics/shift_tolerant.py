"""The networks of shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022), AlexNet and VGG, from their files.

The package stlpips-pytorch holds the weights; its code imports torchvision, which editkit does without, so
the layers are written down here. torch's loader for tensors alone reads the weights, and runs no code.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editkit.evaluation.metrics.base import AbsentMetricError

PACKAGE = "stlpips-pytorch"
BLUR = 3
"""Side of the filter that takes the place of a stride."""
EPSILON = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class Trunk:
    """A network's layers in order.

    Attributes:
        layers: `conv OUT KERNEL PADDING`, `relu`, `pool KERNEL` and `blur`.
        slices: after how many layers each of the five compared features is taken.
    """

    layers: tuple[str, ...]
    slices: tuple[int, ...]


def _vgg() -> Trunk:
    layers, slices = list[str](), []
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers += ["pool 2", "blur"]
        layers += [f"conv {width} 3 1", "relu"] * count
        slices.append(len(layers))
    return Trunk(layers=tuple(layers), slices=tuple(slices))


TRUNKS = {
    "alex": Trunk(
        layers=(
            "conv 64 11 2", "blur", "relu",
            "pool 3", "blur", "conv 192 5 2", "relu",
            "pool 3", "blur", "conv 384 3 1", "relu",
            "conv 256 3 1", "relu",
            "conv 256 3 1", "relu",
        ),
        slices=(3, 7, 11, 13, 15),
    ),
    "vgg": _vgg(),
}  # fmt: skip


class Blur(nn.Module):
    """Halves the size behind a binomial filter, with reflected edges."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, BLUR, BLUR))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, about H / 2, about W / 2)."""
        padded_BCHW = F.pad(x_BCHW, (BLUR - 1,) * 4, mode="reflect")
        return F.conv2d(padded_BCHW, self.filt, stride=2, groups=x_BCHW.shape[1])


class ShiftTolerantLPIPS(nn.Module):
    """Distance of two pictures by the features of a network that small shifts leave alone.

    Args:
        net: `alex` or `vgg`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str) -> None:
        super().__init__()
        trunk = TRUNKS[net]
        layers, self.widths, channels = list[nn.Module](), list[int](), 3
        for place, layer in enumerate(trunk.layers, start=1):
            kind, *numbers = layer.split()
            if kind == "conv":
                width, kernel, padding = map(int, numbers)
                layers.append(nn.Conv2d(channels, width, kernel, padding=padding))
                channels = width
            else:
                layers.append(_plain(kind, numbers, channels))
            if place in trunk.slices:
                self.widths.append(channels)
        self.trunk, self.slices = nn.ModuleList(layers), trunk.slices
        self.weights = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in self.widths)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def features(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """The five compared features of pictures in [0, 1], each (B, C, h, w)."""
        x_BCHW, found = (2 * pixels_BCHW - 1 - self.shift) / self.scale, []
        for place, layer in enumerate(self.trunk, start=1):
            x_BCHW = layer(x_BCHW)
            if place in self.slices:
                found.append(x_BCHW)
        return found

    def forward(self, first_BCHW: Tensor, second_BCHW: Tensor) -> Tensor:
        """The distance of each pair of pictures in [0, 1], (B,); 0 for equal ones."""
        return self.distance(self.features(first_BCHW), self.features(second_BCHW))

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """The distance of each pair of pictures by their features, (B,)."""
        pairs = zip(first, second, self.weights, strict=True)
        return cast(Tensor, sum(_distance(*pair) for pair in pairs))


def published(net: str) -> tuple[ShiftTolerantLPIPS, str]:
    """The network with its published weights, and the version of the package that holds them.

    Raises:
        AbsentMetricError: where the package is not installed.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise AbsentMetricError(
            f"It needs the weights of {PACKAGE}: pip install --no-deps {PACKAGE}."
        ) from error
    path = Path(str(package.locate_file(f"stlpips_pytorch/weights/vST0.0/{net}_shift_tolerant.pth")))
    if not path.is_file():
        raise AbsentMetricError(f"The package {PACKAGE} {package.version} holds no weights for {net}.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    made = ShiftTolerantLPIPS(net)
    made.load_state_dict({_own_name(name): tensor for name, tensor in state.items()})
    return made.eval().requires_grad_(False), f"{PACKAGE} {package.version}, {path.name}"


def _own_name(name: str) -> str:
    """A published key: net.slice2.5.weight, lin0.model.1.weight, scaling_layer.shift."""
    first, *rest = name.split(".")
    if first == "net":
        return ".".join(("trunk", *rest[1:]))
    if first.startswith("lin"):
        return f"weights.{first[3:]}.weight"
    return rest[0]


def _plain(kind: str, numbers: list[str], channels: int) -> nn.Module:
    if kind == "relu":
        return nn.ReLU()
    return nn.MaxPool2d(int(numbers[0]), stride=1) if kind == "pool" else Blur(channels)


def _distance(first_BCHW: Tensor, second_BCHW: Tensor, weights: nn.Module) -> Tensor:
    apart_BCHW = (_unit(first_BCHW) - _unit(second_BCHW)) ** 2
    return cast(Tensor, weights(apart_BCHW)).mean((1, 2, 3))


def _unit(features_BCHW: Tensor) -> Tensor:
    length_B1HW = features_BCHW.square().sum(1, keepdim=True).sqrt()
    return features_BCHW / (length_B1HW + EPSILON)
