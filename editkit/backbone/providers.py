"""What gives backbones: the only door from the core to `backbones`, which it finds by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from editkit.packages import own_package

if TYPE_CHECKING:
    import torch

    from editkit.backbone.adapter_files import LoraFormats
    from editkit.backbone.autoencoders import Autoencoders
    from editkit.backbone.backbone import Backbone, MetaBackbone
    from editkit.backbone.inventory import Inventory
    from editkit.backbone.records import Family
    from editkit.backbone.transformer import Transformer


class BackboneProvider(Protocol):
    """Makes backbones and knows their files. Nothing heavy is imported before it is needed."""

    @property
    def families(self) -> Mapping[str, Family]:
        """The table of backbones, by name."""

    @property
    def lora(self) -> LoraFormats:
        """LoRA files of FLUX in every dialect."""

    @property
    def autoencoders(self) -> Autoencoders:
        """FLUX's autoencoder for those who train it."""

    @property
    def inventory(self) -> Inventory:
        """Published weights on this machine, and what they need in memory."""

    def check_options(self, loading: Mapping[str, Any]) -> None:
        """Refuse loading options that are unknown or do not fit.

        Raises:
            EditkitError: naming the first.
        """

    def load(
        self,
        name: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **loading: Any,
    ) -> Backbone:
        """A backbone by name, local folder or Hub id; weights load when first needed.

        Raises:
            EditkitError: for an unknown name, device, dtype or loading option.
        """

    def create(
        self, fresh: Mapping[str, Any], role: str, device: str | None, seed: int, loading: Mapping[str, Any]
    ) -> Backbone:
        """A backbone with a random transformer for a role and random text encoders, fp32.

        Args:
            fresh: what it is made of, see `backbones.random_init.RandomInitConfig`.
            role: of the transformer.
            device: the best one here where None.
            seed: of the weights.
            loading: options, as for `load`.

        Raises:
            EditkitError: where something of it is missing or does not fit.
        """

    def estimate(self, name: str, loading: Mapping[str, Any]) -> MetaBackbone:
        """A backbone on the meta device, of shapes without weights.

        Raises:
            EditkitError: for an unknown name or loading option.
        """

    def device(self, name: str | None) -> torch.device:
        """The device asked for, or the best one here.

        Raises:
            EditkitError: where it is not there.
        """

    def dtype(self, name: str | torch.dtype | None, chosen: torch.device) -> torch.dtype:
        """The precision asked for, or the one that suits the device.

        Raises:
            EditkitError: where it is unknown.
        """

    def fetch(self, repository: str, licence: str | None, wanted: Sequence[str]) -> Path:
        """A repository's folder: local as it is, from the Hub's cache, or downloaded.

        Args:
            repository: Hub id, or a folder.
            licence: what to accept before.
            wanted: patterns of the files that are needed.

        Raises:
            EditkitError: where it cannot be had.
        """

    def convert(self, source: Path, destination: Path, axes: tuple[int, ...] | None) -> Path:
        """Convert a checkpoint from Black Forest Labs' naming to diffusers', or back.

        Raises:
            EditkitError: where source, destination or RoPE axes do not fit, or the disk refuses.
        """

    def refresh_offload_groups(self, transformer: Transformer) -> None:
        """Where weights visit the device group by group, take in those of adapters that came or went."""


def provider() -> BackboneProvider:
    """The provider of editkit's own backbones.

    Raises:
        ImportError: where another package is called `backbones` and comes first.
    """
    own_package("backbones")
    found: BackboneProvider = importlib.import_module("backbones.provider").PROVIDER
    return found
