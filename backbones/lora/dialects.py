"""Convert a LoRA file of any dialect to diffusers' layout; `keys` lists further spellings.

| dialect   | names                      | matrices             | alpha                            |
|-----------|----------------------------|----------------------|----------------------------------|
| diffusers | diffusers', `transformer.` | lora_A, lora_B       | rank, or in the file's metadata  |
| kohya     | native, joined by `_`      | lora_down, lora_up   | a tensor                         |
| bfl       | native                     | lora_A, lora_B       | rank; other scales are folded in |
| comfyui   | native, `diffusion_model.` | lora_down, lora_up   | a tensor                         |

Tensors stay bit-identical, except where parts are fused (see `fused_modules`) or a scale is folded in.

diffusers' own converters are used for XLabs' naming only. For the other dialects they have these limits, so
the names come from `backbones.conversion.key_map`, as for whole checkpoints:

| limit of diffusers' converters                                                                  |
|-------------------------------------------------------------------------------------------------|
| they expect 19 and 38 blocks of width 3072                                                      |
| kohya: they lose `img_in`, `txt_in`, `time_in`, `vector_in` and the last layer's alpha          |
| kohya: they read alphas, which meta tensors do not have                                         |
| BFL: they need every module                                                                     |
| they drop unknown tensors without an error                                                      |
| their results share memory, which safetensors does not save                                     |
| they do not convert back                                                                        |
"""

from collections.abc import Mapping

from torch import Tensor

from backbones.lora import coverage, dialect_reader, dialect_writer, fused_modules, keys, metadata
from backbones.lora.keys import PREFIX
from editkit.errors import EditkitError


def convert_to_diffusers(
    state: Mapping[str, Tensor], about: Mapping[str, str] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    """Return a file's tensors and metadata as diffusers' pipelines write them.

    A file that is so already, and whose metadata describe it, is returned unchanged. A text encoder's part is
    left out, with a note: all methods share FLUX's text encoders.

    Args:
        state: tensors by key.
        about: metadata of the file.

    Raises:
        EditkitError: where `dialect_reader.read_lora` raises it, and where tensors would be lost.
    """
    about = about or {}
    blocks = fused_modules.count_blocks(state)
    if state and all(_as_written(key, blocks) for key in state):
        metadata.alpha_lookup(about)
        if metadata.describes(about, state):
            return state, about
    lora = dialect_reader.read_in_diffusers_names(keys.without_text_encoders(state), about)
    if lost := lora.unplaced:
        what = f"is one of {len(lost)} that are" if len(lost) > 1 else "is"
        raise EditkitError(
            coverage.describe_kind(lost)
            or f"The tensor {lost[0]} {what} not part of a plain LoRA; give a file with nothing else."
        )
    return dialect_writer.to_dialect(lora.updates, "diffusers")


def _as_written(key: str, blocks: int) -> bool:
    """Whether a key is spelled as diffusers' pipelines spell it, whatever module it names."""
    stem, part = keys.split_key(key)
    ends = {"down": ".lora_A.weight", "up": ".lora_B.weight", "bias": ".lora_B.bias"}
    ends["magnitude"] = ".lora_magnitude_vector"
    place = keys.find_module(stem, blocks)
    known = place is None or (place.dialect == "diffusers" and stem == PREFIX + place.module)
    return known and stem.startswith(PREFIX) and key == stem + ends.get(part, "?")
