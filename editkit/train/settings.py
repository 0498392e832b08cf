"""The config of a method's training run."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from editkit import adapters
from editkit.data.records import FILES, DataConfig, MixedConfig
from editkit.train.config import FitConfig
from editkit.train.distill_settings import DistillConfig
from editkit.train.validation_settings import EvaluationConfig, ValidationConfig

DISTRIBUTIONS = ("logit_normal", "uniform", "mode", "cosmap")
WEIGHTINGS = ("none", "sigma_sqrt", "cosmap")
"""Distributions of times and weightings of the loss that `editkit.flow` knows."""


@dataclass(frozen=True, kw_only=True)
class EditTrainConfig:
    """Config of a method's training run."""

    recipe: str = "edit"
    method: str = "kontext"
    backbone: str = "tiny"
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the method."""
    load: dict[str, Any] = field(default_factory=dict)
    """Loading options of the backbone: backbones.load_options.LoadOptions."""
    fresh: dict[str, Any] = field(default_factory=dict)
    """A new backbone with random weights instead of `backbone`: backbones.random_init.RandomInitConfig."""
    start: str | None = None
    """Role whose transformer, with a wider input layer, the trained one starts from."""
    dtype: str = "float32"
    """Precision of frozen weights: `float32`, or `bfloat16` where not all train. Trained weights are
    float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    selective_checkpointing: bool = False
    """With gradient_checkpointing, keep the results of matrix products and attention, which cost most to
    compute."""
    trainable: str = "lora"
    """Weights that train. `lora`: an adapter. `full`: the whole transformer. `input`: its first layer, which
    `start` widens. To train the first layer and a LoRA, use `lora` with
    lora.ranks={x_embedder: its outputs}."""
    text_encoders: bool = False
    """Train the text encoders too; meant for small new backbones."""
    lora: adapters.LoraOptions = field(default_factory=adapters.LoraOptions)
    adapter: str | None = None
    """A LoRA of any dialect to go on from; it replaces `lora` with its own ranks and modules. A LoRA of
    FLUX.1 Fill fits a wider input."""
    guidance: float = 1.0
    """Guidance input during training; 1 is without guidance."""
    times: str = "logit_normal"
    """How times are drawn: `logit_normal` (paper), `uniform`, `mode` or `cosmap`."""
    time_mean: float | None = None
    """Mean of the logit of `logit_normal` times; where null, it follows the resolution."""
    time_std: float = 1.0
    weighting: str = "none"
    """Loss weight by time: `none`, `sigma_sqrt` or `cosmap`."""
    changed_weight: float = 1.0
    """Loss weight of tokens that differ from the token in the same place of the context picture, or of a
    diptych's left half; others have 1. It has no effect on batches without such a picture or with several,
    nor on diptychs in padded batches (mixed_sizes).
    It spoils edits with many right answers, such as "add a star" anywhere: each place's token weighs more
    where the star is, so the network learns a star in every place. Give such pairs a `mixture` of their own
    with `changed_weight: 1`."""
    distill: DistillConfig | None = None
    """Teach guidance, or few steps, from the model as the run found it; where null, the flow is learnt."""
    context_tokens: float = 1.0
    """Share of the tokens of source and references on the sequence that a batch keeps, chosen at random, so
    that steps cost less. --plan counts all of them."""
    cached_context: float = 0.0
    """Share of steps whose source and references on the sequence attend to each other only, as with the
    method's option `context=cached`, so that the same weights serve `joint` and `cached` edits. Validation
    and --plan know the method's own option alone."""
    noise_offset: float = 0.0
    """Standard deviation of a constant that is added to each channel of a sample's noise."""
    mixed_sizes: bool = False
    """Put samples of different canvas sizes in one batch, padded and masked. Where false, a batch has one
    size."""
    cache: str = "out/cache"
    """Folder of the latent cache."""
    latents: str = "cached"
    """`cached`: pictures are encoded once, before the first step, as the mean of the autoencoder's posterior.
    `on_the_fly`: each step encodes its own pictures with a new sample of the posterior, as ICEdit and ACE++
    were trained; the cache holds sizes and instructions alone."""
    cache_texts: bool = False
    """Encode all instructions before the first step, keep them in the cache, and then free text encoders and
    autoencoder; for FLUX.1 these take 10 GB."""
    data: DataConfig = field(default_factory=DataConfig)
    mixture: dict[str, MixedConfig] = field(default_factory=dict)
    """Further datasets by name; each batch is from one dataset."""
    fit: FitConfig = field(default_factory=FitConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Options of the validation after every `fit.validate_every` steps."""
    evaluation: EvaluationConfig | None = None
    """A benchmark that is run before and after training; its tables are in `evaluation` in the run's folder.
    None where null."""

    @property
    def prior_share(self) -> float:
        """Share of batches with `prior`: they learn the model's own predictions before training."""
        total = 1 + sum(mixed.weight for mixed in self.mixture.values())
        return sum(mixed.weight for mixed in self.mixture.values() if mixed.prior) / total

    def datasets(self) -> dict[str, DataConfig]:
        """Return the datasets that a run reads, by their settings' names.

        The validation's records are among them where the run validates, or where their path is given.
        """
        found = {"data": self.data} | {
            f"mixture.{name}.data": each.data for name, each in self.mixture.items()
        }
        held_out = self.validation.data
        if held_out is not None and (self.fit.validate_every or held_out.path):
            found["validation.data"] = held_out
        return found

    @property
    def few_steps(self) -> int | None:
        """Number of steps that distillation teaches; None where it teaches none."""
        return None if self.distill is None else self.distill.steps

    @property
    def teacher_passes(self) -> float:
        """Mean number of forward passes of a batch beside the objective's own."""
        return self.prior_share if self.distill is None else float(self.distill.passes)

    def __post_init__(self) -> None:
        for name, allowed in (("times", DISTRIBUTIONS), ("weighting", WEIGHTINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        self._check_numbers()
        weights = (self.changed_weight, *(mixed.changed_weight or 1 for mixed in self.mixture.values()))
        if self.distill is not None and set(weights) != {1}:
            raise ValueError("changed_weight is for the flow's loss; leave it out with distill")
        if self.latents not in ("cached", "on_the_fly"):
            raise ValueError(f"latents must be cached or on_the_fly, not {self.latents!r}")
        if self.trainable not in ("lora", "full", "input"):
            raise ValueError(f"trainable must be lora, full or input, not {self.trainable!r}")
        if self.load.get("low_memory"):
            raise ValueError("load.low_memory is for edits; leave it out, and ask --plan what fits")
        if self.load.get("cache"):
            raise ValueError("load.cache skips blocks of edits, through which nothing trains; leave it out")
        quantized = (self.load.get("quantization") or {}).keys()
        if self.trainable != "lora" and quantized & {"text_encoder", "text_encoder_2"}:
            raise ValueError(
                f"trainable={self.trainable} saves the text encoders too, which cannot be quantized then; "
                "leave them out of load.quantization"
            )
        if self.start and self.fresh:
            raise ValueError("start cannot be used with fresh; give one of them")
        if self.fit.validate_every and self.data.name in FILES and self.validation.data is None:
            raise ValueError(
                "fit.validate_every needs validation.data, records that the run is not trained on"
            )
        if self.selective_checkpointing and not self.gradient_checkpointing:
            raise ValueError("selective_checkpointing needs gradient_checkpointing=true")
        if self.evaluation is not None and self.fresh:
            raise ValueError("evaluation needs weights that edit before the run: leave out fresh")
        if self.adapter and self.trainable != "lora":
            raise ValueError("adapter needs trainable=lora")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, not {self.dtype!r}")
        if self.dtype == "bfloat16" and (self.trainable == "full" or self.fit.precision == "fp32"):
            raise ValueError("dtype=bfloat16 needs trainable=lora or input, and no fit.precision=fp32")
        if self.dtype == "bfloat16":
            object.__setattr__(self, "fit", replace(self.fit, precision="bf16"))
        if self.cache_texts and (self.text_encoders or self.fresh):
            raise ValueError(
                "cache_texts needs text encoders that do not train: leave out fresh and text_encoders"
            )
        if self.prior_share and self.text_encoders:
            raise ValueError(
                "a mixture's prior needs text encoders that do not train: leave out text_encoders"
            )
        if self.cached_context and (self.distill is not None or self.prior_share):
            raise ValueError(
                "cached_context does not go together with distill or a mixture's prior, whose teacher would "
                "have it too: leave it out"
            )
        if self.text_encoders and self.trainable != "full":
            raise ValueError("text_encoders needs trainable=full")
        if self.distill is not None:
            self._check_distill(self.distill)

    def _check_numbers(self) -> None:
        if not 0 < self.changed_weight < math.inf:
            raise ValueError(f"changed_weight must be positive, not {self.changed_weight}")
        for name in ("guidance", "time_std"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number from 0 upwards, not {getattr(self, name)}")
        if not 0 < self.context_tokens <= 1:
            raise ValueError(f"context_tokens must lie in (0, 1], not {self.context_tokens}")
        if not 0 <= self.cached_context <= 1:
            raise ValueError(f"cached_context must lie in [0, 1], not {self.cached_context}")
        if not 0 <= self.noise_offset < 1:
            raise ValueError(f"noise_offset must lie in [0, 1), not {self.noise_offset}")

    def _check_distill(self, distill: DistillConfig) -> None:
        for name, given in (
            ("text_encoders", self.text_encoders),
            ("fresh", self.fresh),
            ("start", self.start),
            ("a mixture's prior", self.prior_share),
        ):
            if given:
                raise ValueError(f"distill teaches what a whole model knows already: leave out {name}")
        if distill.guidance is not None:
            return
        for name in ("times", "time_mean", "time_std", "weighting"):
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"distill.ladd and distill.progressive choose the times: leave out {name}")
        if distill.ladd is not None and self.load.get("compile"):
            raise ValueError("distill.ladd reads features of blocks: leave out load.compile")


CONFIG = EditTrainConfig
