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
from editkit.backbone.inventory import Fit, Held, Inventory, Way
from editkit.backbone.providers import BackboneProvider, provider
from editkit.backbone.records import Family, Role
from editkit.backbone.transformer import Transformer, TransformerConfig

__all__ = [
    "AdapterSignature",
    "Autoencoders",
    "Backbone",
    "BackboneProvider",
    "CollapsedAdapter",
    "ExpertsSummary",
    "Family",
    "Fit",
    "Held",
    "Inventory",
    "LoraFormats",
    "LoraSummary",
    "MetaBackbone",
    "Role",
    "TextEncoders",
    "Transformer",
    "TransformerConfig",
    "Way",
    "provider",
]
