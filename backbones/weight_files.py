"""Recognise the models of FLUX in a weight file."""

from collections.abc import Mapping
from pathlib import Path

from backbones import families
from backbones.conversion import architecture, key_map, state_dict
from backbones.conversion.single_file import PREFIXES, open_component
from backbones.file_sizes import file_bytes
from backbones.packing import CHANNELS
from backbones.specs import FAMILIES, PARAMETERS
from editkit.backbone import WeightFile
from editkit.errors import EditkitError

SIGNS = {
    "transformer": ("double_blocks.0.img_attn.qkv.weight", "transformer_blocks.0.attn.to_q.weight"),
    "text_encoder": ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"),
    "text_encoder_2": ("encoder.block.0.layer.0.SelfAttention.q.weight", "enc.blk.0.attn_q.weight"),
    "vae": ("decoder.conv_in.weight",),
}
"""Names of tensors by which a model is known, in each naming."""

SLACK = 0.05
"""Largest relative difference of a model's number of parameters: files differ in tied matrices."""


def recognise(path: Path) -> WeightFile | None:
    """Tell which models a file holds, what they take once loaded, and which roles they fit; None without one.

    Raises:
        EditkitError: where the file is damaged, has a weight without values, or is of another kind.
    """
    models, counts, fit, latents = dict[str, float](), dict[str, int](), None, CHANNELS
    for part in PREFIXES:
        with open_component(path, part) as found:
            if not any(name in found for name in SIGNS[part]):
                continue
            sizes = file_bytes(path, part)
            layout = {name: found.on_meta(name) for name in sizes}
        if empty := [name for name in sizes if not layout[name].numel()]:
            raise EditkitError(f"{path.name} has no values in {empty[0]}; give an undamaged file.")
        models[part] = sum(sizes.values())
        counts[part] = sum(layout[name].numel() for name in sizes)
        if part == "transformer":
            spoken = any(name.startswith(key_map.DIFFUSERS[0]) for name in layout)
            fit = architecture.infer_architecture(
                state_dict.diffusers_to_native(layout) if spoken else layout
            )
        if part == "vae":
            latents = layout[SIGNS[part][0]].shape[1:2].numel()
    if not models:
        return None
    base = families.base_family(fit) if fit else _family_of_encoders(counts, latents)
    roles = FAMILIES[base].roles if fit and base else {}
    return WeightFile(
        models=models,
        bits=8 * sum(models.values()) / sum(counts.values()),
        base=base,
        channels=fit["in_channels"] if fit else None,
        options=families.needed_options(base),
        roles=tuple(name for name, role in roles.items() if fit and role.in_channels == fit["in_channels"]),
    )


def _family_of_encoders(counts: Mapping[str, int], latents: int) -> str | None:
    """Return FLUX.1 [dev] for encoders of its size and latent channels, which all of FLUX.1 shares."""
    same = all(abs(count / PARAMETERS[part] - 1) < SLACK for part, count in counts.items())
    return "flux1-dev" if same and latents == CHANNELS else None
