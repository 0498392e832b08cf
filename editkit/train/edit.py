"""Fine-tunes a method on a backbone, or trains a new backbone with it: the flow objective over any plan."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editkit import adapters, config, flow, registry
from editkit.data.datasets import DataConfig, dataset
from editkit.data.latents import EditBatch, Stream, buckets
from editkit.method import Method
from editkit.train.fit import FitConfig, Job


@dataclass(frozen=True, kw_only=True)
class EditTrainConfig:
    """A method's training run."""

    recipe: str = "edit"
    method: str = "kontext"
    backbone: str = "tiny"
    options: dict[str, Any] = field(default_factory=dict)
    """The method's own options."""
    load: dict[str, Any] = field(default_factory=dict)
    """The backbone's loading options: backbones.loading.LoadOptions."""
    fresh: dict[str, Any] = field(default_factory=dict)
    """A new backbone with random weights instead of `backbone`: backbones.fresh.FreshConfig."""
    start: str | None = None
    """Role whose transformer the new one starts from, its input layer widened; needs trainable=full."""
    trainable: str = "lora"
    """`lora`, or `full`: the whole transformer."""
    text_encoders: bool = False
    """Train the text encoders too; for small new backbones."""
    lora: adapters.LoraOptions = field(default_factory=adapters.LoraOptions)
    guidance: float = 1.0
    """Guidance input during training; 1 is the un-guided regime."""
    time_mean: float | None = None
    """Mean of the times' logit; follows the resolution where null."""
    time_std: float = 1.0
    cache: str = "out/cache"
    """Folder of latents that were encoded before."""
    data: DataConfig = field(default_factory=DataConfig)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.trainable not in ("lora", "full"):
            raise ValueError(f"trainable must be lora or full, not {self.trainable!r}")
        if self.start and (self.fresh or self.trainable != "full"):
            raise ValueError("start needs trainable=full and no fresh backbone")
        if self.text_encoders and self.trainable != "full":
            raise ValueError("text_encoders trains only together with trainable=full")


class FlowObjective(nn.Module):
    """Mean squared error of the predicted velocity at random times."""

    def __init__(self, job: "EditJob") -> None:
        super().__init__()
        self.job = [job]  # in a list, so that the job's modules are not registered twice
        self.transformer = job.backbone.transformer(job.method.role)
        if job.config.text_encoders:
            self.clip, self.t5 = job.backbone.encoders.clip, job.backbone.encoders.t5

    def forward(self, batch: EditBatch) -> Tensor:
        job, device = self.job[0], job_device(self)
        tokens = batch.x0_BLC.shape[1]
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        noise_BLC = torch.stack([torch.randn(batch.x0_BLC.shape[1:], generator=g) for g in generators])
        times_B = torch.cat(
            [
                flow.training_times(
                    1, tokens, generator=g, mean=job.config.time_mean, std=job.config.time_std
                )
                for g in generators
            ]
        )
        plan = job.conditioner.worded(batch.plan, batch.instructions)
        x_BLC, velocity_BLC = flow.interpolate(batch.x0_BLC, noise_BLC.to(device), times_B.to(device))
        predicted_BLC = job.backbone.velocity(x_BLC, times_B.to(device), plan, job.config.guidance)
        loss = flow.loss(predicted_BLC, velocity_BLC, batch.weights_BL)
        penalty = job.trainer.penalty()
        return loss if penalty is None else loss + penalty


def job_device(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


class EditJob(Job):
    """Wires a backbone, a method and a dataset together for `fit`."""

    def __init__(self, settings: EditTrainConfig, method: Method | None = None) -> None:
        self.config, self.method = settings, method or registry.method(settings.method)
        self.backbone = self._backbone()
        options = config.build(self.method.config, settings.options)
        self.backbone.settle(self.method.role)
        self.conditioner = self.method.conditioner(self.backbone, options)
        self.trainer = self.method.trainer(self.backbone, options)
        self._prepare()
        self.objective = FlowObjective(self)
        filled = buckets(
            dataset(settings.data),
            self.backbone,
            self.conditioner,
            self.trainer,
            key=[self.method.name, settings.options, vars(settings.data), self.backbone.vae_hash()],
            folder=Path(settings.cache),
        )
        self.stream = Stream(filled, settings.fit.batch, settings.fit.seed)

    def _backbone(self) -> Any:
        flux = registry.backbones("flux")
        if not self.config.fresh:
            loaded = flux.load(
                self.config.backbone, device=self.config.fit.device, dtype="float32", **self.config.load
            )
            if self.config.start:
                loaded.settle(self.config.start)
                registry.backbones("fresh").widen(loaded, self.method.role, self.config.start)
            return loaded
        module = registry.backbones("fresh")
        made = config.build(module.FreshConfig, self.config.fresh)
        device = registry.backbones("sources").device(self.config.fit.device)
        loading = config.build(registry.backbones("loading").LoadOptions, self.config.load)
        return module.fresh(made, self.method.role, device, self.config.fit.seed, loading)

    def _prepare(self) -> None:
        """Decide what trains."""
        transformer = self.backbone.transformer(self.method.role)
        if self.config.trainable == "full":
            transformer.requires_grad_(True)
        else:
            self.trainer.attach(transformer, self.config.lora)
        if self.config.text_encoders:
            self.backbone.encoders.clip.requires_grad_(True)
            self.backbone.encoders.t5.requires_grad_(True)
            # CLIP's last hidden states feed nothing in FLUX, only its pooled feature does; every parameter
            # still gets a gradient through it.
        transformer.train()

    def batch(self, indices: Sequence[int]) -> EditBatch:
        bucket, places = self.stream(indices[0] // len(indices))
        seed = self.config.fit.seed
        plan, tensors = bucket.take(places, self.backbone.device)
        return EditBatch(
            plan=plan,
            x0_BLC=tensors["x0_BLC"],
            instructions=[
                self.trainer.reword(bucket.instructions[place], random.Random(f"words {seed} {index}"))
                for place, index in zip(places, indices, strict=True)
            ],
            weights_BL=tensors.get("weights_BL"),
            seeds=[hash((seed, index)) % 2**63 for index in indices],
        )

    def export(self, folder: Path) -> None:
        role = self.method.role
        if self.config.trainable == "full":
            registry.backbones("fresh").save(self.backbone, role, folder / role)
        else:
            self.trainer.save(self.backbone.transformer(role), folder, self.config.lora)


CONFIG, JOB = EditTrainConfig, EditJob
