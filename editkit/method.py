"""The contract: what a method is, and the parts that methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, final, runtime_checkable

from editkit import flow
from editkit.backbone import AdapterSignature, Backbone
from editkit.config import Options
from editkit.types import EditInputs, Plan

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from torch import Tensor

    from editkit.adapters.lora import LoraOptions
    from editkit.backbone import CollapsedAdapter, Transformer
    from editkit.types import EditRequest

OptionsT = TypeVar("OptionsT", bound=Options)
"""A method's own options."""


class Conditioner(ABC, Generic[OptionsT]):
    """What a method invents; its sampler and its trainer both use it, so they cannot drift apart."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    @abstractmethod
    def plan_without_text(self, inputs: EditInputs) -> Plan:
        """Fit the canvas and fill the slots with encoded pixels."""

    def prompts(self, instructions: Sequence[str]) -> list[str]:
        """The method's wording around the instructions."""
        return list(instructions)

    def target(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """The whole canvas as it should come out, pixels BCHW in [0, 1]."""
        from editkit.imaging import canvas

        return canvas.place(answer_BCHW, self.plan_without_text(inputs).canvas)

    def target_tokens(self, inputs: EditInputs, answer_BCHW: Tensor) -> Tensor:
        """`target` as packed latents BLC."""
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
    """Noise to answer for one plan. A method overrides what its paper changes."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    def predict(self, x_BLC: Tensor, t: float, plan: Plan, guidance: float) -> Tensor:
        """The network's prediction under the plan's text."""
        return self.backbone.velocity(x_BLC, t, plan, guidance)

    def velocity(self, x_BLC: Tensor, t: float, plan: Plan, guidance: float) -> Tensor:
        """What Euler follows: the prediction, pushed away from the negative prompt's where there is one.

        diffusers' `true_cfg_scale` with `negative_prompt`; the scale is the option `true_cfg`.
        """
        predicted_BLC = self.predict(x_BLC, t, plan, guidance)
        negative = plan.conditioning.negative
        if negative is None:
            return predicted_BLC
        assert isinstance(self.config, Guided)  # or the request would have been refused
        unwanted = replace(plan, conditioning=replace(plan.conditioning, text=negative))
        unwanted_BLC, scale = self.predict(x_BLC, t, unwanted, guidance), float(self.config.true_cfg)
        return unwanted_BLC + scale * (predicted_BLC - unwanted_BLC)

    def start(self, plan: Plan, noise_BLC: Tensor) -> Tensor:
        """Where Euler starts: the noise, BLC."""
        return noise_BLC

    @final
    def euler_steps(self, plan: Plan, noise_BLC: Tensor, times: Tensor, guidance: float) -> Iterator[Tensor]:
        """Denoise over a whole schedule as an edit does; yield x_t, BLC, after each Euler step."""
        velocity = partial(self.velocity, plan=plan, guidance=guidance)
        return flow.euler_steps(velocity, self.start(plan, noise_BLC), times)


class Trainer(Generic[OptionsT]):
    """What a method's training adds to the common step."""

    def __init__(self, backbone: Backbone, config: OptionsT) -> None:
        self.backbone, self.config = backbone, config

    def reword(self, instruction: str, rng: random.Random) -> str:
        """The instruction as it is trained on, for example left out now and then."""
        return instruction

    def weights(self, plan: Plan, inputs: EditInputs) -> Tensor | None:
        """Loss weights BL over the canvas' tokens, whose sum is what a sample counts; None is a mean."""
        return None

    def attach(self, transformer: Transformer, options: LoraOptions) -> None:
        """Add the adapter that trains where not the whole transformer does."""
        from editkit import adapters

        adapters.attach(transformer, options)

    def load(self, transformer: Transformer, path: Path) -> None:
        """Put on an adapter that was trained before, which is then the only part that trains."""
        from editkit import adapters

        adapters.resume(transformer, path)

    def save(self, transformer: Transformer, folder: Path) -> None:
        """Write the trained adapter."""
        from editkit import adapters

        adapters.save(transformer, folder)

    def penalty(self) -> Tensor | None:
        """A term to add to the loss after a forward pass, scaled already."""
        return None

    def figures(self) -> dict[str, float]:
        """What the last forward pass says about training, by name, to be logged beside the loss."""
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
            state: its tensors by key.
            way: how, by name.
            weights: each expert's mean weight over tokens, by module; all alike where None.
            rank: of the result; the adapter's own where None.
            scale: of the adapter.

        Raises:
            EditkitError: where the tensors are of another kind, or an argument does not fit.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A use of a method that has several; methods add to it what theirs differ in.

    Attributes:
        name: what a request calls it.
        summary: one line.
    """

    name: str
    summary: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Method(Generic[OptionsT]):
    """A record that a method's folder exports as `METHOD`.

    Attributes:
        name: the folder's name.
        summary: one line.
        paper: where it is described.
        role: the backbone's transformer that it runs on by default.
        role_of: the transformer under given options, where these can ask for another one.
        config: dataclass of its options; `true_cfg` is among them where it takes negative prompts.
        conditioner: fills the slots.
        sampler: denoises.
        trainer: what its training adds.
        defaults: steps and guidance where they are not the role's own.
        tasks: what it can be used for, where it is told apart by the request's `task`.
        adapter: gives the adapter that the method uses by default, from its options, the backbone's base and
            the request: a file, a folder, a Hub id or hf://OWNER/NAME/FILE; None for no adapter. It raises
            NoAdapterError where there is none for this base.
        signature: how its adapter files are recognised; None where nothing tells them.
        load_adapter: puts an adapter file on a transformer under a name; `adapters.load` where None.
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
    role_of: Callable[[OptionsT], str] | None = None

    def role_under(self, options: OptionsT) -> str:
        """The backbone's transformer that it runs on under its options."""
        return self.role_of(options) if self.role_of else self.role
