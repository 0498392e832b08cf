"""Define the records, protocols and provider through which core and methods use FLUX."""

from editkit.backbone.adapter_files import (
    AdapterSignature,
    CollapsedAdapter,
    ExpertsSummary,
    LoraFormats,
    LoraSummary,
)
from editkit.backbone.autoencoders import Autoencoders
from editkit.backbone.backbone import Backbone, MetaBackbone, TextEncoders
from editkit.backbone.inventory import CachedRole, Inventory, LoadingChoice, MemoryFit, WeightFile
from editkit.backbone.providers import BackboneProvider, provider
from editkit.backbone.records import Family, Role
from editkit.backbone.transformer import Transformer, TransformerConfig, WeightReader

__all__ = [
    "AdapterSignature",
    "Autoencoders",
    "Backbone",
    "BackboneProvider",
    "CachedRole",
    "CollapsedAdapter",
    "ExpertsSummary",
    "Family",
    "Inventory",
    "LoadingChoice",
    "LoraFormats",
    "LoraSummary",
    "MemoryFit",
    "MetaBackbone",
    "Role",
    "TextEncoders",
    "Transformer",
    "TransformerConfig",
    "WeightFile",
    "WeightReader",
    "provider",
]
