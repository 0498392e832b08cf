"""A training step against a bare torch loop and against diffusers' Kontext LoRA step, in one run.

One LoRA on the shipped `tiny`, one batch, bf16: ours with latents and texts from the cache; the same forward
and backward pass without anything around it; diffusers' own components in the order of its Kontext LoRA
script, which has texts encoded beforehand, and pictures encoded at every step or beforehand too. Then ours as
the shipped configs train: compiled, with plain attention. Last, what a batch costs before its step: drawn and
encoded anew, and from the cache. Prints seconds and ratios.

    python benchmarks/training.py [--rounds 20] [--batch 16] [--threads 2]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from torch import Tensor

from backbones.encoding_cache import LruCache
from editkit import config, flow
from editkit.data.buckets import encode_records, inputs_of, tensor_of
from editkit.data.datasets import dataset
from editkit.inference.inputs import collate
from editkit.train.finetune import EditJob
from editkit.train.run_state import Run
from editkit.train.settings import EditTrainConfig

RATE, CLIP, WARM = 1e-4, 1.0, 3
AS_SHIPPED = "editkit as tiny is trained"


def main() -> None:
    """Print a row for each arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "dtype": "bfloat16",
            "cache_texts": True,
            "cache": f"{folder}/cache",
            "data": {"count": 8 * arguments.batch, "kinds": {"recolour": 1.0}},
            "fit": {
                "output": f"{folder}/run",
                "batch": arguments.batch,
                "device": "cpu",
                "trackers": [],
                "optim": {"lr": RATE},
            },
        }
        settings = config.build(EditTrainConfig, values)
        arms = {
            "editkit": Run(EditJob(settings), settings.fit).step,
            "bare torch": bare_step(settings),
            "diffusers' script": diffusers_step(settings, encoded=False),
            "diffusers' script, latents cached": diffusers_step(settings, encoded=True),
        }
        seconds = timed(arms, arguments.rounds)
        # Later, since diffusers' choice of attention holds for the whole process.
        load = {"load": {"compile": True, "attention": "plain"}}
        faster = config.build(EditTrainConfig, values | load)
        seconds |= timed({AS_SHIPPED: Run(EditJob(faster), faster.fit).step}, arguments.rounds)
        made = timed(batches(settings), arguments.rounds)
    ours, shipped = seconds["editkit"], seconds[AS_SHIPPED]
    print(f"{'':<36}{'seconds':>9}{'to editkit':>12}{'to as shipped':>15}")
    for name, found in seconds.items():
        print(f"{name:<36}{found:>9.3f}{found / ours:>12.3f}{found / shipped:>15.3f}")
    anew, cached = made.values()
    print(f"a batch: {anew:.4f} s anew, {cached:.4f} s from the cache, {anew / cached:.1f} times as fast")


def timed(arms: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each arm's step; the arms take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + WARM):
        for name, step in arms.items():
            start = time.perf_counter()
            step()
            if number >= WARM:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def batches(settings: EditTrainConfig) -> dict[str, Callable[[], None]]:
    """Two ways to a batch: from ShapesWorld's rules through both encoders, and from the cache."""
    job, records, size = EditJob(settings), dataset(settings.data), settings.fit.batch
    numbers = count()

    def anew() -> None:
        start = next(numbers) * size % len(records)
        found = [records[place] for place in range(start, start + size)]
        job.backbone._texts = LruCache()  # nothing is remembered from batch to batch
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            plan, _ = encode_records(found, job.backbone, job.conditioner, job.trainer)
            job.conditioner.with_text(plan, [record.instruction for record in found])
        job.backbone._latents.clear()

    def cached() -> None:
        start = next(numbers) * size
        job.backbone.cache_texts(Path(settings.cache))
        batch = job.batch(range(start, start + size))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            job.conditioner.with_text(*batch.groups[0])

    return {"anew": anew, "cached": cached}


def adapted(settings: EditTrainConfig) -> tuple[Any, list[Tensor]]:
    """The same transformer with the same LoRA, in memory of its own, and what trains of it."""
    own = EditJob(settings)
    transformer = own.backbone.transformer("kontext")
    return own, [p for p in transformer.parameters() if p.requires_grad]


def bare_step(settings: EditTrainConfig) -> Callable[[], None]:
    """Forward, backward, clipping and AdamW on one batch that lies ready."""
    job, trained = adapted(settings)
    transformer, optimizer = job.backbone.transformer("kontext"), torch.optim.AdamW(trained, lr=RATE)
    batch = job.batch(range(settings.fit.batch))
    slots = job.conditioner.with_text(*batch.groups[0]).conditioning
    ids = torch.cat((job.backbone.grid_ids(128, 128), slots.sequence_ids_S3))
    text_ids = torch.zeros(slots.text.tokens_BTD.shape[1], 3)
    x0_BLC = batch.x0_BLC

    def step() -> None:
        noise_BLC, times_B = torch.randn_like(x0_BLC), flow.training_times(len(x0_BLC), x0_BLC.shape[1])
        x_BLC, velocity_BLC = flow.interpolate(x0_BLC, noise_BLC, times_B)
        with torch.autocast("cpu", torch.bfloat16):
            predicted_BLC = transformer(
                hidden_states=torch.cat((x_BLC, slots.sequence_BSC), dim=1),
                encoder_hidden_states=slots.text.tokens_BTD,
                pooled_projections=slots.text.pooled_BD,
                timestep=times_B,
                guidance=torch.ones(len(x_BLC)) if transformer.config.guidance_embeds else None,
                txt_ids=text_ids,
                img_ids=ids,
                return_dict=False,
            )[0][:, : x_BLC.shape[1]]
            loss = flow.loss(predicted_BLC, velocity_BLC)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


def diffusers_step(settings: EditTrainConfig, *, encoded: bool) -> Callable[[], None]:
    """Build the step of diffusers' Kontext LoRA script for a batch whose prompts were encoded beforehand."""
    job, trained = adapted(settings)
    transformer, optimizer = job.backbone.transformer("kontext"), torch.optim.AdamW(trained, lr=RATE)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
        job.backbone.folder("kontext"), subfolder="scheduler"
    )
    records = dataset(settings.data)
    chosen = [records[place] for place in range(settings.fit.batch)]
    inputs = collate([inputs_of(record) for record in chosen])
    answer_BCHW = torch.cat([tensor_of(record.answer) for record in chosen])
    assert inputs.source_BCHW is not None
    text = job.backbone.text(inputs.prompts)
    pictures = [pixels.bfloat16() * 2 - 1 for pixels in (answer_BCHW, inputs.source_BCHW)]
    vae, pack = job.backbone.vae, FluxKontextPipeline._pack_latents
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    text_ids = torch.zeros(text.tokens_BTD.shape[1], 3)

    @torch.no_grad()
    def distributions() -> list[Any]:
        return [vae.encode(pixels).latent_dist for pixels in pictures]

    kept = distributions() if encoded else None

    def step() -> None:
        latents, context = (((each.sample() - shift) * scale) for each in (kept or distributions()))
        batch, channels, height, width = latents.shape
        ids = FluxKontextPipeline._prepare_latent_image_ids(
            batch, height // 2, width // 2, "cpu", latents.dtype
        )
        beside = ids.clone()
        beside[..., 0] = 1
        noise = torch.randn_like(latents)
        density = compute_density_for_timestep_sampling("none", batch, 0.0, 1.0, 1.29)
        times = scheduler.timesteps[(density * scheduler.config.num_train_timesteps).long()]
        places = [(scheduler.timesteps == time).nonzero().item() for time in times]
        sigmas = scheduler.sigmas[places].view(-1, 1, 1, 1).to(latents.dtype)
        noisy = (1 - sigmas) * latents + sigmas * noise
        packed = pack(noisy, batch, channels, height, width)
        hidden = torch.cat((packed, pack(context, batch, channels, height, width)), dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = transformer(
                hidden_states=hidden,
                encoder_hidden_states=text.tokens_BTD,
                pooled_projections=text.pooled_BD,
                timestep=times / 1000,
                guidance=torch.ones(batch) if transformer.config.guidance_embeds else None,
                txt_ids=text_ids,
                img_ids=torch.cat((ids, beside)),
                return_dict=False,
            )[0][:, : packed.shape[1]]
        velocity = FluxKontextPipeline._unpack_latents(predicted, height * 8, width * 8, 8)
        weighting = compute_loss_weighting_for_sd3("none", sigmas=sigmas)
        error = weighting.float() * (velocity.float() - (noise - latents).float()) ** 2
        error.reshape(batch, -1).mean(1).mean().backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    main()
