"""Write down the embedded backbone's autoencoder, which is linear in pixels and needs no training.

python -m editkit.shapesworld.linear_autoencoder FOLDER
"""

from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from editkit.backbone import provider
from editkit.shapesworld.edits import TRAINING_START, example
from editkit.shapesworld.render import render

MODEL = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [12, 12, 64, 64],
    "layers_per_block": 1,
    "latent_channels": 16,
    "norm_num_groups": 2,
    "sample_size": 128,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
}
"""diffusers' AutoencoderKL config."""
PICTURES, POWER = 2000, 0.5
"""Number of pictures whose colours whiten the latents, and the power to which differences are whitened."""


def write(folder: Path) -> None:
    """Save the autoencoder in diffusers' layout, in bf16."""
    autoencoders = provider().autoencoders
    vae = autoencoders.create(MODEL)
    seen_BCHW = torch.from_numpy(np.stack([picture(index) for index in range(PICTURES)])) / 127.5 - 1
    autoencoders.make_linear(vae, seen_BCHW, POWER)
    autoencoders.save(vae, vae.state_dict(), folder)


def picture(index: int) -> NDArray[np.uint8]:
    """Draw levels CHW of edits and of captions in turn; captions show all styles evenly."""
    kind = "caption" if index % 2 else None
    edit = example(TRAINING_START + index // 2, kind)
    scene = edit.source if index % 4 == 2 and edit.source else edit.answer
    return np.ascontiguousarray(render(scene).transpose(2, 0, 1))


if __name__ == "__main__":
    typer.run(write)
