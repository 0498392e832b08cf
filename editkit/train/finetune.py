"""The job that fine-tunes a method on a backbone, or trains a new backbone with it."""

import json
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file

from editkit import config, notes, registry
from editkit.backbone import Backbone, Role, WeightReader, provider
from editkit.data.batches import BatchBuilder, EditBatch
from editkit.data.buckets import SLOTS, Bucket
from editkit.data.cropping import cropped
from editkit.data.datasets import Dataset
from editkit.data.latent_cache import LatentCache
from editkit.data.records import MixedConfig
from editkit.data.samplers import BatchSampler, MixtureSampler
from editkit.errors import EditkitError
from editkit.imaging import images
from editkit.train import (
    activation_checkpointing,
    base_weights,
    model_card,
    resuming,
    status,
    suited_data,
    text_encoding,
)
from editkit.train.distill import objective_of
from editkit.train.distributed import fsdp, meta_weights, processes
from editkit.train.job import Job, Rows
from editkit.train.metrics_log import last_figures
from editkit.train.objective import Objective
from editkit.train.settings import EditTrainConfig
from editkit.train.validation import Validation


class EditJob(Job):
    """Connects a backbone, a method and datasets for `fit`."""

    objective: Objective
    _weights: WeightReader | None = None

    def __init__(self, settings: EditTrainConfig) -> None:
        images.check_folder(settings.cache)
        self.settings = self.config = settings
        self.exports_frozen = settings.trainable == "input"
        self.method = registry.method(settings.method)
        options = config.build(self.method.config, settings.options)
        if fsdp.wanted() and (settings.cached_context or getattr(options, "context", "joint") == "cached"):
            # FSDP gathers weights for gradients of a block's outputs; kept keys and values are none of them.
            raise EditkitError("A cached context does not train in shards; launch without FSDP.")
        mixture = {"data": MixedConfig(data=settings.data)}
        mixture |= {f"mixture.{name}.data": mixed for name, mixed in settings.mixture.items()}
        records = suited_data.datasets(mixture, self.method, options)  # before the weights, which take long
        held_out = suited_data.held_out(settings, self.method, options)
        self.role = self.method.role_under(options)
        status.tell(status.LOADING)
        self.backbone = self._backbone()
        self.backbone.use_components_of(self.role)
        self.conditioner = self.method.conditioner(self.backbone, options)
        self.trainer = self.method.trainer(self.backbone, options)
        self.contents: dict[str, str] = {}
        if not settings.fresh:
            self._keep_content(resuming.WEIGHTS, base_weights.content(self.backbone, self.role, settings))
        self._prepare()
        parts = (self.backbone, self.role, self.conditioner, self.trainer, settings)
        self.objective = objective_of(settings)(*parts)
        self._validation = None if held_out is None else Validation(self, settings.validation, held_out)
        filled = [self._buckets(name, records[name], mixed) for name, mixed in mixture.items()]
        if not any(bucket.joins_sequence for bucket in chain(*filled)):
            self._refuse_context_settings()
        # Datasets change with optimizer steps, so the number of forward passes in a step does not matter.
        count, seed = settings.fit.samples, settings.fit.seed
        samplers = [BatchSampler(each, count, seed, mixed=settings.mixed_sizes) for each in filled]
        self.sampler = MixtureSampler(samplers, [mixed.weight for mixed in mixture.values()])
        self._build_batch = BatchBuilder(self.sampler, self.backbone, self.trainer, count, seed)
        if settings.cache_texts:
            self.backbone.cache_texts(Path(settings.cache))
            text_encoding.encode_all([*chain(*filled)], self.conditioner, self.backbone, low=settings.fit.low)
            self._free()

    def _refuse_context_settings(self) -> None:
        """Refuse settings of pictures that join the sequence."""
        settings = self.config
        for name, given in (
            ("context_tokens", settings.context_tokens < 1),
            ("cached_context", settings.cached_context),
        ):
            if given:
                raise EditkitError(
                    f"{name} is for pictures that join the sequence, and none does here; leave it out."
                )

    def _buckets(self, name: str, records: Dataset, mixed: MixedConfig) -> list[Bucket]:
        """Encode a dataset as buckets, or read them from the latent cache."""
        status.tell(status.READING)
        settings = self.config
        records = cropped(records, mixed.data, self.backbone.sizes(self.role))
        self._keep_content(name, records.content())
        about = [self.method.name, settings.options, vars(mixed.data), records.digest()]
        found = LatentCache(
            *(records, self.backbone, self.conditioner, self.trainer),
            key=[*about, self.backbone.vae_hash()],
            folder=Path(settings.cache),
            count=partial(status.tell, status.ENCODING),
            share=(processes.rank(), processes.count()),
            fresh=settings.latents == "on_the_fly",
        ).buckets()
        for bucket in found:
            bucket.mixed = mixed
        return found

    def _keep_content(self, name: str, content: str) -> None:
        """Keep the hash of files for the checkpoints, and compare it with that of a run that resumes."""
        self.contents[name + resuming.CONTENT] = content
        resuming.check_content(self.config.fit, name, content)

    def _backbone(self) -> Backbone:
        if not self.config.fresh:
            loaded = provider().load(
                self.config.backbone,
                device=self.config.fit.device,
                dtype=self.config.dtype,
                loading=self.config.load,
            )
            if fsdp.wanted():
                # FSDP moves block by block to the devices, so that no device ever holds all of them.
                loaded.transformer_device = torch.device("cpu")
                if not self._needs_all_values:
                    self._weights = loaded.empty_transformer(self.role, self.config.start)
            if self.config.start:
                loaded.use_components_of(self.config.start)
                if self._weights is None:
                    loaded.widen(self.role, self.config.start)
            return loaded
        fit = self.config.fit
        return provider().create(self.config.fresh, self.role, fit.device, fit.seed, self.config.load)

    @property
    def _needs_all_values(self) -> bool:
        """Whether a new DoRA is trained, which begins from the norms of the weights."""
        return self.config.trainable == "lora" and self.config.lora.dora and not self.config.adapter

    def _prepare(self) -> None:
        """Make the chosen parts trainable, and add or load an adapter."""
        transformer = self.backbone.transformer(self.role)
        if fsdp.wanted() and self._weights is None and not self.config.fresh and processes.rank() == 0:
            quantized = "its weights are quantized, or in a GGUF file"
            why = "a new DoRA needs all values" if self._needs_all_values else quantized
            notes.tell(f"Every process reads the whole transformer into its memory, since {why}.")
        if self.config.trainable == "full":
            if getattr(transformer, "is_quantized", False):
                raise EditkitError("Quantized weights cannot train; take others, or trainable=lora.")
            transformer.requires_grad_(True)
        elif self.config.trainable == "input":
            transformer.requires_grad_(False)  # those of a fresh backbone train
            transformer.x_embedder.requires_grad_(True).float()
        else:
            with torch.random.fork_rng(), meta_weights.stand_ins(transformer):
                torch.manual_seed(self.config.fit.seed)  # the same adapter in all processes
                if self.config.adapter:
                    self.trainer.load(transformer, Path(self.config.adapter))
                else:
                    self.trainer.attach(transformer, self.config.lora)
            for parameter in transformer.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        if self.config.gradient_checkpointing:
            activation_checkpointing.switch_on(transformer, self.config.selective_checkpointing)
        if self.config.text_encoders:
            if fsdp.wanted():
                raise EditkitError("text_encoders=true does not work in shards; launch without FSDP.")
            self.backbone.encoders.clip.requires_grad_(True)
            self.backbone.encoders.t5.requires_grad_(True)
            # FLUX reads CLIP's pooled feature only; every parameter gets a gradient through it.
        transformer.train()

    def batch(self, indices: Sequence[int]) -> EditBatch:
        return self._build_batch(indices)

    def weight_rows(self) -> Rows | None:
        weights = self._weights
        return None if weights is None else meta_weights.row_reader(self.objective, "transformer.", weights)

    def figures(self) -> dict[str, float]:
        return self.trainer.figures() | self.objective.figures()

    def placed(self) -> None:
        if self.config.prior_share or self.config.distill is not None:
            self.objective.keep_initial_weights()

    def _base(self, record: Role) -> str:
        """Name the origin of the weights, without paths of this machine."""
        if self.config.fresh:
            return "random weights"
        source = str(record.file or record.source)
        return self.config.backbone if Path(source).is_absolute() else source

    def validate(self, step: int, folder: Path | None) -> dict[str, float]:
        assert self._validation is not None  # made at the start, to raise its errors early
        figures = self._validation(step, folder)
        if self.config.cache_texts:
            self._free()
        return figures

    def _free(self) -> None:
        """Drop the text encoders, and the autoencoder where no step encodes pictures."""
        self.backbone.free(autoencoder=self.config.latents == "cached")

    def keep(self, indices: Sequence[int], folder: Path) -> bool:
        batch = self.batch(indices)
        about = {"seeds": batch.seeds, "instructions": [words for _, each in batch.groups for words in each]}
        about |= {"prior": batch.mixed.prior, "loss_weight": batch.mixed.loss_weight}
        tensors = {"x0_BLC": batch.x0_BLC, "weights_BL": batch.weights_BL}
        tensors |= {name: getattr(batch.plan.conditioning, name) for name in SLOTS}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: t.contiguous() for k, t in tensors.items() if t is not None}, folder / "batch.safetensors"
        )
        (folder / "batch.json").write_text(json.dumps(about, indent=2) + "\n")
        return True

    def export(self, folder: Path) -> None:
        role = self.role
        if self.config.trainable != "lora":
            self.backbone.save(role, folder / role)
        else:
            self.trainer.save(self.backbone.transformer(role), folder)
        record, output = self.backbone.role(self.config.start or role), Path(self.config.fit.output)
        sheets = sorted((output / "validation").glob("step-*.png"))
        model_card.write(
            folder,
            self.config,
            base=self._base(record),
            licence=record.licence,
            role=role,
            figures=last_figures(output),
            samples=sheets[-1] if sheets else None,
        )


CONFIG, JOB = EditTrainConfig, EditJob
