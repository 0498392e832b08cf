"""The contract of a method, and the parts that methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, final, runtime_checkable

from editkit.backbone import AdapterSignature, Backbone
from editkit.config import Options
from editkit.types import EditInputs, Plan

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from torch import Tensor

    from editkit.adapters.lora_options import LoraOptions
    from editkit.backbone import CollapsedAdapter, Transformer
    from editkit.types import EditRequest

OptionsT = TypeVar("OptionsT", bound=Options)
"""A method's own options."""


class Conditioner(ABC, Generic[OptionsT]):
    """Makes a plan of a request: canvas, filled slots and text. Sampling and training share it."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    @classmethod
    def check_inputs(cls, inputs: EditInputs, config: OptionsT) -> None:
        """Raise what `plan_without_text` would of inputs that do not suit; a run asks before it loads."""

    @abstractmethod
    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """Fit the canvas and fill the slots with encoded pixels."""

    def prompts(self, instructions: Sequence[str]) -> list[str]:
        """Turn instructions into prompts in the method's own wording."""
        return list(instructions)

    def target(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """Make the training target: pixels BCHW in [0, 1] of the whole canvas."""
        from editkit.imaging import canvas

        return canvas.place(answer_BCHW, self.plan_without_text(inputs).canvas)

    def target_tokens(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """Encode the training target as packed latents BLC."""
        return self.backbone.encode(self.target(inputs, answer_BCHW))

    def plan(self, inputs: EditInputs) -> Plan:
        """Make a complete plan, text included."""
        return self.with_text(self.plan_without_text(inputs), inputs.prompts, inputs.negatives)

    def with_text(
        self, plan: Plan, instructions: Sequence[str], negatives: Sequence[str] | None = None
    ) -> Plan:
        """Add the encoded prompts, and the negative ones, to a plan without text."""
        text = self.backbone.text(self.prompts(instructions))
        negative = self.backbone.text(self.prompts(negatives)) if negatives else None
        return replace(plan, conditioning=replace(plan.conditioning, text=text, negative=negative))


@runtime_checkable
class Guided(Protocol):
    """Options of a method that takes negative prompts."""

    @property
    def true_cfg(self) -> float:
        """Scale of true classifier-free guidance."""


class Sampler(Generic[OptionsT]):
    """Denoises one plan. A method overrides what its paper changes."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    def predict(self, x_BLC: Tensor, now: float, then: float, plan: Plan, guidance: float) -> Tensor:
        """Predict the velocity under the plan's text, BLC. FLUX knows single times, and needs no `then`."""
        return self.backbone.velocity(x_BLC, now, plan, guidance)

    def velocity(self, x_BLC: Tensor, now: float, then: float, plan: Plan, guidance: float) -> Tensor:
        """Return the velocity that Euler integrates from `now` to `then`, BLC.

        With a negative prompt this is true classifier-free guidance, diffusers' `true_cfg_scale` with
        `negative_prompt`; the scale is the option `true_cfg`.
        """
        predicted_BLC = self.predict(x_BLC, now, then, plan, guidance)
        negative = plan.conditioning.negative
        if negative is None:
            return predicted_BLC
        assert isinstance(self.config, Guided)  # requests with a negative prompt are refused otherwise
        unwanted = replace(plan, conditioning=replace(plan.conditioning, text=negative))
        unwanted_BLC = self.predict(x_BLC, now, then, unwanted, guidance)
        scale = float(self.config.true_cfg)
        return unwanted_BLC + scale * (predicted_BLC - unwanted_BLC)

    def start(self, plan: Plan, noise_BLC: Tensor) -> Tensor:
        """Return the tensor at time 1, from which Euler starts: the noise, BLC."""
        return noise_BLC

    @final
    def euler_steps(self, plan: Plan, noise_BLC: Tensor, times: Tensor, guidance: float) -> Iterator[Tensor]:
        """Denoise over a whole schedule as an edit does; yield x_t, BLC, after each Euler step."""
        velocity = partial(self.velocity, plan=plan, guidance=guidance)
        from editkit import flow  # needs torch, which a method's options do not

        return flow.euler_steps(velocity, self.start(plan, noise_BLC), times)


class Trainer(Generic[OptionsT]):
    """Adds a method's own parts to the shared training step."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    def reword(self, instruction: str, rng: random.Random) -> str:
        """Change an instruction for training, for example drop it at random."""
        return instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Return loss weights BL of the canvas' tokens; they sum to a sample's weight. None means a mean."""
        return None

    def attach(self, transformer: Transformer, options: LoraOptions) -> None:
        """Add a new adapter to the transformer and make it the only part that trains."""
        from editkit import adapters

        adapters.attach(transformer, options)

    def load(self, transformer: Transformer, path: Path) -> None:
        """Load a trained adapter and make it the only part that trains."""
        from editkit import adapters

        adapters.resume(transformer, path)

    def save(self, transformer: Transformer, folder: Path) -> None:
        """Write the trained adapter."""
        from editkit import adapters

        adapters.save(transformer, folder)

    def penalty(self) -> Tensor | None:
        """Return a scaled term to add to the loss after a forward pass."""
        return None

    def figures(self) -> dict[str, float]:
        """Return figures of the last forward pass by name, to be logged beside the loss."""
        return {}


class Collapse(Protocol):
    """Turns a method's own kind of adapter into a plain LoRA."""

    def __call__(
        self,
        state: Mapping[str, Tensor],
        *,
        way: str,
        weights: Mapping[str, Sequence[float]] | None,
        rank: int | None,
        scale: float,
    ) -> CollapsedAdapter:
        """Collapse an adapter.

        Args:
            state: the adapter's tensors by key.
            way: name of the algorithm.
            weights: each expert's mean weight over tokens, by module; equal weights where None.
            rank: rank of the result; the adapter's rank where None.
            scale: scale of the adapter.

        Raises:
            EditkitError: where the tensors are of another kind, or an argument does not fit.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A use case, for methods that have several; methods add fields to it.

    Attributes:
        name: value of a request's `task`.
        summary: one line for lists.
    """

    name: str
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Method(Generic[OptionsT]):
    """A record that a method's folder exports as `METHOD`.

    Attributes:
        name: the folder's name.
        summary: one line for lists: how it works.
        purpose: one sentence for people: what it is good for.
        main_options: the fields of a request and options that matter most, by name, with labels in plain
            words; the page shows them first.
        paper: title and year of the paper.
        role: the transformer of the backbone that it runs on by default.
        role_of: gives the role from the options, where these can choose another one.
        config: dataclass of its options; has `true_cfg` where the method takes negative prompts.
        conditioner: makes plans.
        sampler: denoises.
        trainer: adds the method's own parts to training.
        defaults: `steps` and `guidance`, where they differ from the role's.
        tasks: its use cases, chosen by the request's `task`; empty where there is only one.
        adapter: gives the adapter that the method uses by default, from its options, the backbone's base and
            the request: a file, a folder, a Hub id or hf://OWNER/NAME/FILE; None for no adapter. It raises
            NoAdapterError where there is none for this base.
        signature: marks by which its adapter files are recognised; None where there are none.
        load_adapter: loads an adapter file onto a transformer; `adapters.load_adapter` where None.
        collapse_adapter: turns the method's own kind of adapter into a plain LoRA; None where it has none.
    """

    name: str
    summary: str
    paper: str
    role: str
    config: type[OptionsT]
    conditioner: type[Conditioner[OptionsT]]
    sampler: type[Sampler[OptionsT]] = Sampler
    trainer: type[Trainer[OptionsT]] = Trainer
    defaults: Mapping[str, float] | None = None
    tasks: tuple[Task, ...] = ()
    adapter: Callable[[OptionsT, str | None, EditRequest], str | None] | None = None
    signature: AdapterSignature | None = None
    load_adapter: Callable[[Transformer, Path, str], object] | None = None
    collapse_adapter: Collapse | None = None
    purpose: str = ""
    main_options: Mapping[str, str] = field(default_factory=dict)
    role_of: Callable[[OptionsT], str] | None = None

    def role_under(self, options: OptionsT) -> str:
        """Return the role of the transformer that the method runs on under its options."""
        return self.role_of(options) if self.role_of else self.role
