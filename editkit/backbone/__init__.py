"""What FLUX offers to the core and to methods: records, protocols, and the provider of backbones."""

from editkit.backbone.adapter_files import (
    AdapterSignature,
    CollapsedAdapter,
    ExpertsSummary,
    LoraFormats,
    LoraSummary,
)
from editkit.backbone.backbone import Backbone, MetaBackbone, TextEncoders
from editkit.backbone.providers import BackboneProvider, provider
from editkit.backbone.records import Family, Role
from editkit.backbone.transformer import Transformer, TransformerConfig

__all__ = [
    "AdapterSignature",
    "Backbone",
    "BackboneProvider",
    "CollapsedAdapter",
    "ExpertsSummary",
    "Family",
    "LoraFormats",
    "LoraSummary",
    "MetaBackbone",
    "Role",
    "TextEncoders",
    "Transformer",
    "TransformerConfig",
    "provider",
]
