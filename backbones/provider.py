"""Provide FLUX to the core. Heavy libraries are imported only when they are needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.specs import FAMILIES
from editkit import config
from editkit.backbone import Autoencoders, BackboneProvider, Family, Inventory, LoraFormats, Transformer
from editkit.startup import no_garbage_collection

if TYPE_CHECKING:
    import torch

    from backbones.flux import Flux
    from backbones.meta_init import MetaFlux


class FluxProvider:
    """Loads FLUX families and their files; `editkit.backbone.BackboneProvider` documents the methods."""

    @property
    def families(self) -> Mapping[str, Family]:
        return FAMILIES

    @property
    def lora(self) -> LoraFormats:
        from backbones.lora import formats

        return formats

    @property
    def autoencoders(self) -> Autoencoders:
        from backbones import autoencoder

        return autoencoder

    @property
    def inventory(self) -> Inventory:
        from backbones import inventory

        return inventory

    def load(
        self,
        name: str,
        device: "str | torch.device | None" = None,
        dtype: "str | torch.dtype | None" = None,
        loading: Mapping[str, Any] | None = None,
    ) -> "Flux":
        with no_garbage_collection():
            from backbones import flux

        return flux.load_flux(name, device, dtype, loading)

    def create(
        self, fresh: Mapping[str, Any], role: str, device: str | None, seed: int, loading: Mapping[str, Any]
    ) -> "Flux":
        from backbones import devices, random_init
        from backbones.load_options import LoadOptions

        made = config.build(random_init.RandomInitConfig, fresh)
        chosen = devices.choose_device(device)
        return random_init.random_flux(made, role, chosen, seed, config.build(LoadOptions, loading))

    def estimate(self, name: str, loading: Mapping[str, Any]) -> "MetaFlux":
        from backbones.load_options import LoadOptions
        from backbones.meta_init import MetaFlux

        return MetaFlux(name, config.build(LoadOptions, loading))

    def device(self, name: str | None) -> "torch.device":
        from backbones import devices

        return devices.choose_device(name)

    def dtype(self, name: "str | torch.dtype | None", chosen: "torch.device") -> "torch.dtype":
        from backbones import devices

        return devices.choose_dtype(name, chosen)

    def fetch(self, repository: str, licence: str | None, wanted: Sequence[str]) -> Path:
        from backbones import hub

        return hub.fetch(repository, licence, wanted)

    def fetch_adapter(self, repository: str, name: str | None = None) -> Path:
        from backbones import hub_adapters

        return hub_adapters.fetch(repository, name)

    def convert(self, source: Path, destination: Path, axes: tuple[int, ...] | None) -> Path:
        from backbones.conversion import checkpoints

        return checkpoints.convert(source, destination, axes)

    def refresh_offload_groups(self, transformer: Transformer) -> None:
        from backbones import loading

        loading.refresh_offload_groups(transformer)


PROVIDER: BackboneProvider = FluxProvider()
"""The provider that the core uses; mypy checks here that it implements the protocol."""
