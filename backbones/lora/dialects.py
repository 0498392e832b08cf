"""LoRAs of FLUX in four dialects, and the way from each to each; `keys` has their other spellings.

| dialect   | names                      | matrices             | alpha                            |
|-----------|----------------------------|----------------------|----------------------------------|
| diffusers | diffusers', `transformer.` | lora_A, lora_B       | rank, or in the file's metadata  |
| kohya     | native, joined by `_`      | lora_down, lora_up   | a tensor                         |
| bfl       | native                     | lora_A, lora_B       | rank; other scales are folded in |
| comfyui   | native, `diffusion_model.` | lora_down, lora_up   | a tensor                         |

Tensors pass bit by bit, except where parts are fused (see `fused_modules`) or a scale is folded in.

diffusers' own converters are used for XLabs' naming alone. Those of the dialects above count on 19 and 38
blocks of width 3072. From kohya they lose the updates of `img_in`, `txt_in`, `time_in` and `vector_in`, whose
keys they leave without prefix, ignore the last layer's alpha, and read alphas, which meta tensors have not;
from BFL they want every module. Tensors of kinds that they do not know are dropped without an error, parts
share memory, which safetensors does not save, and there is no way back. The names are those of
`backbones.conversion.state_dict` instead, as for whole checkpoints.
"""

from collections.abc import Mapping

from torch import Tensor

from backbones.lora import coverage, dialect_reader, dialect_writer, fused_modules, keys, metadata
from backbones.lora.keys import PREFIX
from editkit.errors import EditkitError


def convert_to_diffusers(
    state: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of a file as diffusers' pipelines write them; untouched where they are so already.

    A text encoder's part is left out, with a note: FLUX's are shared by all methods.

    Raises:
        EditkitError: as `read`, and where tensors would be lost.
    """
    about = about or {}
    blocks = fused_modules.count_blocks(state)
    if state and all(_as_written(key, blocks) for key in state):
        metadata.alpha_lookup(about)
        if metadata.is_prefixed(about):
            return state, about
    lora = dialect_reader.read_in_diffusers_names(keys.without_text_encoders(state), about)
    if lost := lora.unplaced:
        raise EditkitError(
            coverage.describe_kind(lost)
            or f"The tensor {lost[0]} is no part of a plain LoRA, one of {len(lost)} such; "
            "give a file with nothing else."
        )
    return dialect_writer.to_dialect(lora.updates, "diffusers")


def _as_written(key: str, blocks: int) -> bool:
    """Whether a key is spelled as diffusers' pipelines do, be it of a module of FLUX or not."""
    stem, part = keys.split_key(key)
    ends = {"down": ".lora_A.weight", "up": ".lora_B.weight", "bias": ".lora_B.bias"}
    ends["magnitude"] = ".lora_magnitude_vector"
    place = keys.find_module(stem, blocks)
    known = place is None or (place.dialect == "diffusers" and stem == PREFIX + place.module)
    return known and stem.startswith(PREFIX) and key == stem + ends.get(part, "?")
