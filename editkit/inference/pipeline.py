"""Run an edit, from request to result, in eight steps.

1. Read: `inputs.prepare` checks a request and makes its pictures tensors; `inputs.collate` makes a batch.
2. Plan: the method's conditioner fits the canvas, encodes text and pixels, and fills a slot.
3. Draw noise: each picture has its own CPU generator.
4. Make the schedule.
5. Denoise: Euler over any span of the schedule.
6. Decode, in `decoding` as what follows: latents become pixels of the source's exact size.
7. Postprocess: measure motion, align, preserve.
8. Return results, each with its recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from editkit import flow, notes
from editkit.inference import speed
from editkit.inference.decoding import decode_and_postprocess, previews, results
from editkit.inference.inputs import PreparedRequest, collate
from editkit.inference.memory import enough_memory
from editkit.inference.planned_batch import DenoiseState, Pipeline, PlannedBatch
from editkit.inference.progress import Progress, Stopwatch, Watch
from editkit.types import EditResult


@torch.no_grad()
def run(pipeline: Pipeline, batch: Sequence[PreparedRequest], watch: Watch | None = None) -> list[EditResult]:
    """Edit a batch of requests of one group.

    Raises:
        EditkitError: where the network's result is not finite or memory runs out.
    """
    clock = Stopwatch()
    with enough_memory():
        planned = plan_batch(pipeline, batch, watch)  # steps 1 to 4
        clock.lap("plan")
        state = sample(planned, planned.start, watch=watch)  # step 5
        clock.lap("sample")
        edited = decode_and_postprocess(planned, state.x_BLC)  # steps 6 and 7
        clock.lap("decode")
        return results(planned, edited, clock.shared(len(batch)))  # step 8


def plan_batch(
    pipeline: Pipeline, batch: Sequence[PreparedRequest], watch: Watch | None = None
) -> PlannedBatch:
    """Do steps 1 to 4: everything before the first Euler step; `watch` is called in each step of a draft."""
    backbone, request = pipeline.backbone, batch[0].request
    # 1. Requests become one set of tensors.
    inputs = collate([item.inputs for item in batch])
    # 2. Fit the canvas, encode text and pixels, fill a slot. Some official samplers draw from the generators
    # here, before the noise is drawn.
    backbone.use_components_of(pipeline.method.role_under(pipeline.options))
    generators = tuple(torch.Generator().manual_seed(item.request.seed) for item in batch)
    plan = pipeline.conditioner.plan(replace(inputs, generators=generators))
    known = pipeline.adapted or backbone.role(plan.role).cached_context
    if plan.conditioning.context_apart and not known:
        notes.tell(
            "context=cached spoils the picture unless the weights were trained with it, and no adapter of "
            f"yours is in use; leave it out, or train one for {pipeline.method.name} with cached_context or "
            "options.context=cached."
        )
    # 3. One CPU generator for each picture, so that a batch gives what single edits give.
    noise_BLC = backbone.noise(plan.canvas, generators)
    # 4. Shift times as the role's own scheduler does.
    steps, guidance = pipeline.defaults(plan.role, request)
    if request.search is None:  # previews have steps of their own, and the search itself tells of its edit's
        speed.check_steps(request.speed, backbone.base, pipeline.method.name, steps)
    times = flow.schedule(steps, noise_BLC.shape[1], backbone.time_shift(plan.role))
    backbone.reset_caches()  # they hold steps of the previous picture
    return PlannedBatch(
        pipeline=pipeline,
        batch=batch,
        inputs=inputs,
        plan=plan,
        start=DenoiseState(x_BLC=pipeline.sampler.start(plan, noise_BLC)),
        times=times,
        guidance=guidance,
        velocity=pipeline.pace.velocity(
            pipeline, inputs, plan, times, guidance, _draft_callback(steps, batch, watch)
        ),
    )


def sample(
    planned: PlannedBatch, state: DenoiseState, until: int | None = None, watch: Watch | None = None
) -> DenoiseState:
    """Do step 5 for a planned batch, from a state to the step `until`; the pace's cache skips blocks.

    Raises:
        EditkitError: where the cache does not fit, or blocks are compiled.
    """
    pipeline, role = planned.pipeline, planned.plan.role
    cache = pipeline.pace.cache(role, len(planned.times) - 1, state.step)
    with pipeline.backbone.skipping_blocks(role, cache):
        return denoise(planned.velocity, state, planned.times, until, step_callback(planned, watch))


def denoise(
    velocity: flow.Velocity,
    state: DenoiseState,
    times: Tensor,
    until: int | None = None,
    on_step: Callable[[DenoiseState, int], None] | None = None,
) -> DenoiseState:
    """Do step 5: Euler from a state to the step `until` of a schedule, or to its end.

    Two calls, the second from the state that the first returned, give the same tensors as one call.

    Args:
        velocity: the function to integrate.
        state: the state to start from.
        times: times of the whole schedule.
        until: number of the step to stop after; the last one where None.
        on_step: called after each step with its state and the last step's number.
    """
    last = len(times) - 1 if until is None else until
    for x_BLC in flow.euler_steps(velocity, state.x_BLC, times[state.step : last + 1]):
        state = DenoiseState(x_BLC=x_BLC, step=state.step + 1, before_BLC=state.x_BLC)
        if on_step:
            on_step(state, last)
    return state


def step_callback(planned: PlannedBatch, watch: Watch | None) -> Callable[[DenoiseState, int], None] | None:
    """Make a callback for `denoise` that reports each step, and a way to preview it, to a watcher."""
    if watch is None:
        return None
    seeds = tuple(item.request.seed for item in planned.batch)

    def on_step(state: DenoiseState, last: int) -> None:
        preview = partial(previews, planned, state)
        watch(Progress(step=state.step, steps=last, seeds=seeds, preview=preview))

    return on_step


def _draft_callback(
    steps: int, batch: Sequence[PreparedRequest], watch: Watch | None
) -> Callable[[], None] | None:
    """Make a callback that reports a draft's step, after which no step of the edit is done yet."""
    if watch is None:
        return None
    seeds = tuple(item.request.seed for item in batch)
    return partial(watch, Progress(step=0, steps=steps, seeds=seeds, preview=list))
