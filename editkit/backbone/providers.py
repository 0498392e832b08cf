"""Find the provider of backbones by name: the only way from the core to the package `backbones`."""

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
    """Loads and creates backbones, and knows their files. Heavy libraries are imported on first use."""

    @property
    def families(self) -> Mapping[str, Family]:
        """The table of backbones, by name."""

    @property
    def lora(self) -> LoraFormats:
        """LoRA files of FLUX in every dialect."""

    @property
    def autoencoders(self) -> Autoencoders:
        """FLUX's autoencoder for training."""

    @property
    def inventory(self) -> Inventory:
        """Published weights on this machine, and the memory that they need."""

    def load(
        self,
        name: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        loading: Mapping[str, Any] | None = None,
    ) -> Backbone:
        """Load a backbone by name, local folder or Hub id; its weights load when they are first needed.

        Args:
            name: name of a backbone, a diffusers pipeline folder, or a Hub id.
            device: cpu, cuda or mps; the best one here where None.
            dtype: float32, bfloat16 or float16; fp32 on a CPU and bf16 elsewhere where None.
            loading: fields of `backbones.load_options.LoadOptions`.

        Raises:
            EditkitError: for an unknown name, device, dtype or loading option.
        """

    def create(
        self, fresh: Mapping[str, Any], role: str, device: str | None, seed: int, loading: Mapping[str, Any]
    ) -> Backbone:
        """Create a backbone in fp32 with a random transformer for a role and random text encoders.

        Args:
            fresh: its parts, see `backbones.random_init.RandomInitConfig`.
            role: role of the transformer.
            device: the device; the best one here where None.
            seed: seed of the weights.
            loading: loading options, as for `load`.

        Raises:
            EditkitError: where a part is missing or does not fit.
        """

    def estimate(self, name: str, loading: Mapping[str, Any]) -> MetaBackbone:
        """Make a backbone on the meta device: its tensors have shapes and no values.

        Raises:
            EditkitError: for an unknown name or loading option.
        """

    def device(self, name: str | None) -> torch.device:
        """Return the requested device, or the best one of this machine where None.

        Raises:
            EditkitError: where the machine does not have it.
        """

    def dtype(self, name: str | torch.dtype | None, chosen: torch.device) -> torch.dtype:
        """Return the requested precision; where None, fp32 on a CPU and bf16 elsewhere.

        Raises:
            EditkitError: where the precision is unknown.
        """

    def fetch(self, repository: str, licence: str | None, wanted: Sequence[str]) -> Path:
        """Return a repository's folder: a local one, one in the Hub's cache, or a downloaded one.

        Args:
            repository: a Hub id, or a folder.
            licence: the licence that must be accepted before the download, or None.
            wanted: patterns of the files that are needed.

        Raises:
            EditkitError: where the files cannot be obtained.
        """

    def fetch_adapter(self, repository: str, name: str | None = None) -> Path:
        """Return an adapter's file, in the Hub's cache or downloaded, with peft's config beside it.

        Args:
            repository: a Hub id.
            name: path of the file in the repository; None for the only one, or the one of a usual name.

        Raises:
            EditkitError: where it cannot be obtained, or there are several.
        """

    def convert(self, source: Path, destination: Path, axes: tuple[int, ...] | None) -> Path:
        """Convert a checkpoint from Black Forest Labs' naming to diffusers', or back.

        Raises:
            EditkitError: where source, destination or RoPE axes do not fit, or the disk is full.
        """

    def refresh_offload_groups(self, transformer: Transformer) -> None:
        """Update the groups in which weights visit the device, after adapters were added or removed."""


def provider() -> BackboneProvider:
    """Return the provider of editkit's own backbones.

    Raises:
        ImportError: where another package is called `backbones` and comes first.
    """
    own_package("backbones")
    found: BackboneProvider = importlib.import_module("backbones.provider").PROVIDER
    return found
