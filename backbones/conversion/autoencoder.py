"""Convert FLUX's autoencoder from Black Forest Labs' naming to diffusers'."""

from collections.abc import Mapping
from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from editkit.errors import EditkitError


def native_to_diffusers(native: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of a native autoencoder to AutoencoderKL's names; values stay bit-identical.

    Args:
        native: all tensors of one autoencoder.
        config: config of diffusers' AutoencoderKL.

    Raises:
        EditkitError: where tensors are missing or unknown.
    """
    try:
        converted: dict[str, Tensor] = convert_ldm_vae_checkpoint(dict(native), dict(config))
    except (KeyError, IndexError) as error:
        raise EditkitError(
            f"this is not a complete FLUX autoencoder (at {error}); give another file."
        ) from error
    known = {tensor.data_ptr() for tensor in converted.values()}
    # The library silently drops tensors that it does not know.
    if unknown := [name for name, tensor in native.items() if tensor.data_ptr() not in known]:
        few = ", ".join(unknown[:3])
        raise EditkitError(
            f"{len(unknown)} tensors do not belong to FLUX's autoencoder ({few}); give another file."
        )
    return converted


def infer_config(native: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the config of the AutoencoderKL that native tensors belong to; scale and shift are FLUX.1's.

    Raises:
        EditkitError: where tensors are missing.
    """
    levels = max(1, len({name.split(".")[2] for name in native if name.startswith("decoder.up.")}))
    blocks = len({name.split(".")[4] for name in native if name.startswith("encoder.down.0.block.")})
    try:
        widths = [native[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
        ends = {
            "in_channels": native["encoder.conv_in.weight"].shape[1],
            "out_channels": native["decoder.conv_out.weight"].shape[0],
            "latent_channels": native["decoder.conv_in.weight"].shape[1],
        }
    except (KeyError, IndexError) as error:
        raise EditkitError(
            f"this is not a complete FLUX autoencoder (at {error}); give another file."
        ) from error
    return ends | {
        "block_out_channels": widths,
        "layers_per_block": blocks,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    }
