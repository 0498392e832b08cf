"""Distillation: laws of both objectives, what their gradients reach, and how runs go on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editkit import EditkitError, config, flow, notes
from editkit.train import metrics_log
from editkit.train.distill import GuidanceObjective, LaddObjective, ProgressiveObjective
from editkit.train.distill.discriminator import Discriminator, hinge, r1
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from tests.command_line import copied
from tests.train.runs import assert_same, train

GUIDANCE, LADD = "distill.guidance.scales=[1.0,3.0]", "distill.ladd.steps=4"
PROGRESSIVE = "distill.progressive={steps: 2, teacher_steps: 6}"


@pytest.fixture
def distilled(settings: Any) -> Any:
    """A function that gives a small distillation of known weights."""

    def make(output: str, *overrides: str, trainable: str = "lora") -> EditTrainConfig:
        chosen = settings(output, "data.count=8", trainable=trainable)
        values = asdict(chosen) | {"fresh": {}, "backbone": "tiny"}
        return config.build(EditTrainConfig, values, overrides)

    return make


def made(chosen: EditTrainConfig, samples: int = 2) -> tuple[EditJob, Any]:
    """A job whose teacher is kept, and its first samples."""
    job = EditJob(chosen)
    job.placed()
    return job, job.batch(range(samples))


def moved(job: EditJob) -> None:
    """Move what trains, so that student and teacher differ."""
    with torch.no_grad():
        for parameter in job.backbone.transformer(job.role).parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_a_teacher_that_is_the_student_leaves_nothing_to_learn_at_scale_1(
    distilled: Any, trainable: str
) -> None:
    job, batch = made(distilled("run", "distill.guidance.scales=[1.0,1.0]", trainable=trainable))
    with torch.no_grad():
        assert job.objective(batch) == 0
        moved(job)
        assert job.objective(batch) > 0


def test_guidance_learns_what_true_guidance_does(distilled: Any) -> None:
    """The target is what the sampler computes with an empty negative prompt."""
    job, batch = made(distilled("run", "distill.guidance.scales=[3.0,3.0]"))
    assert isinstance(job.objective, GuidanceObjective)
    noise_BLC, times_B = job.objective.noise_and_times(batch)
    x_BLC, _ = flow.interpolate(batch.x0_BLC, noise_BLC, times_B)
    found_BLC = job.objective.teacher(batch, x_BLC, times_B, job.objective.scales(batch))
    method = job.method
    options = config.build(method.config, {"true_cfg": 3.0})
    sampler = method.sampler(job.backbone, options)
    plan = job.conditioner.with_text(batch.plan, batch.groups[0][1], [""] * len(batch.seeds))
    with torch.no_grad():
        wanted_BLC = sampler.velocity(x_BLC, times_B, 0.0, plan, 1.0)  # type: ignore[arg-type]
    assert torch.allclose(found_BLC, wanted_BLC, atol=1e-4)
    assert not torch.allclose(found_BLC, job.backbone.velocity(x_BLC, times_B, plan, 1.0), atol=1e-2)


def test_scales_and_times_depend_on_a_sample_alone(distilled: Any) -> None:
    job, batch = made(distilled("run", GUIDANCE), 4)
    assert isinstance(job.objective, GuidanceObjective)
    scales_B = job.objective.scales(batch)
    assert ((scales_B >= 1) & (scales_B <= 3)).all()
    assert len(set(scales_B.tolist())) == 4
    turned = replace(batch, seeds=batch.seeds[::-1])
    assert torch.equal(job.objective.scales(turned), scales_B.flip(0))


def test_the_times_of_a_student_are_those_of_its_steps(distilled: Any) -> None:
    job, batch = made(distilled("run", LADD, "distill.ladd.first=0.4"))
    assert isinstance(job.objective, LaddObjective)
    many = replace(batch, seeds=list(range(400)), x0_BLC=batch.x0_BLC[:1].expand(400, -1, -1))
    drawn = job.objective.times(many)
    steps_S = flow.schedule(4, batch.x0_BLC.shape[1], job.objective.time_shift)[:-1]
    shares = [float((drawn == step).float().mean()) for step in steps_S]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(0.4, abs=0.08)
    assert min(shares) > 0.1
    for fewer in (1, 2):  # whose times are among them
        own = flow.schedule(fewer, batch.x0_BLC.shape[1], job.objective.time_shift)[:-1]
        assert all(torch.isclose(steps_S, time).any() for time in own)


def test_a_progressive_student_goes_where_its_teacher_does(distilled: Any) -> None:
    """From noise, its target leads to where the first half of the teacher's sampler leads."""
    job, batch = made(distilled("run", PROGRESSIVE), 4)
    objective = job.objective
    assert isinstance(objective, ProgressiveObjective)
    times_NB, plan = objective.times(batch), objective.with_text(batch)
    schedule = flow.schedule(6, batch.x0_BLC.shape[1], objective.time_shift)
    assert {tuple(times) for times in times_NB.T.tolist()} == {
        tuple(schedule[:4].tolist()),
        tuple(schedule[3:].tolist()),
    }
    noise_BLC, _ = objective.noise_and_times(batch)
    target_BLC = objective.teacher(noise_BLC, schedule[:4, None].expand(-1, 4), plan)

    def velocity(x_BLC: torch.Tensor, now: float, then: float) -> torch.Tensor:
        return job.backbone.velocity(x_BLC, torch.full((4,), now), plan, 1.0)

    moved(job)  # the teacher stays
    with torch.no_grad(), objective.initial.in_use():
        *_, wanted_BLC = flow.euler_steps(velocity, noise_BLC, schedule[:4])
    found_BLC = noise_BLC + (schedule[3] - 1) * target_BLC
    assert torch.allclose(found_BLC, wanted_BLC, atol=1e-4)


@pytest.mark.parametrize(("guidance", "told"), [(1.0, 1), (2.5, 0)])
def test_a_teacher_without_the_guidance_of_edits_is_told(distilled: Any, guidance: float, told: int) -> None:
    job = EditJob(distilled("run", PROGRESSIVE, f"guidance={guidance}"))
    family = job.backbone.family  # type: ignore[attr-defined]
    guided = replace(family, roles={"kontext": replace(family.roles["kontext"], guidance=2.5)})
    job.backbone.family = guided  # type: ignore[attr-defined]
    with notes.collected() as collected:
        ProgressiveObjective(job.backbone, "kontext", job.conditioner, job.trainer, job.config)
    assert len(collected) == told


def test_a_progressive_student_of_as_many_steps_is_its_teacher(distilled: Any) -> None:
    job, batch = made(distilled("run", "distill.progressive={steps: 4, teacher_steps: 4}"))
    with torch.no_grad():
        assert job.objective(batch) < 1e-10
        moved(job)
        assert job.objective(batch) > 1e-6


@pytest.mark.parametrize(
    ("method", "objective", "trainable"),
    [
        ("kontext", GUIDANCE, "lora"),
        ("kontext", LADD, "lora"),
        ("kontext", LADD, "full"),
        ("icedit", LADD, "lora"),
        ("aceplus", LADD, "lora"),
        ("kontext", PROGRESSIVE, "full"),
        ("icedit", PROGRESSIVE, "lora"),
        ("aceplus", PROGRESSIVE, "lora"),
    ],
)
def test_gradients_reach_the_student_and_the_discriminator_and_nothing_else(
    distilled: Any, method: str, objective: str, trainable: str
) -> None:
    job, batch = made(distilled("run", objective, f"method={method}", trainable=trainable))
    moved(job)
    before = {name: p.detach().clone() for name, p in job.objective.named_parameters()}
    loss = job.objective(batch)
    loss.backward()
    assert loss.isfinite()
    assert loss >= 0
    trained = {name for name, p in job.objective.named_parameters() if p.requires_grad}
    graded = {name: p.grad for name, p in job.objective.named_parameters() if p.grad is not None}
    assert graded.keys() == trained
    # As long as no token is judged beyond the margin, a head's last bias is pulled both ways alike.
    assert all(grad.any() for name, grad in graded.items() if not name.endswith(".2.bias"))
    heads = {name for name in trained if name.startswith("discriminator.")}
    assert bool(heads) == (objective == LADD)
    if trainable == "lora":
        assert all("lora" in name for name in trained - heads)
    for name, parameter in job.objective.named_parameters():
        assert torch.equal(parameter, before[name]), "the teacher's weights stay in the student's place"


def test_the_students_gradient_is_that_of_the_heads_verdict(distilled: Any) -> None:
    """The student's two passes give the slope of the verdict on its answer."""
    job, batch = made(distilled("run", "distill.ladd.steps=1", "distill.ladd.r1=0"))
    objective = job.objective
    assert isinstance(objective, LaddObjective)
    objective(batch).backward()
    (name, one), *_ = [(n, p) for n, p in objective.named_parameters() if "lora_B" in n and p.requires_grad]
    found = one.grad
    assert found is not None
    plan, times_B = objective.with_text(batch), objective.times(batch)
    noise_BLC, _ = objective.noise_and_times(batch)
    x_BLC, _ = flow.interpolate(batch.x0_BLC, noise_BLC, times_B)
    verdicts = []
    for sign in (1, -1):
        with torch.no_grad():
            one += sign * 1e-3 * found.sign()
            answer_BLC, _ = objective.answer(x_BLC, times_B, plan)
            one -= sign * 1e-3 * found.sign()
            again_BLC, again_B = objective.noised_again(batch)
            noised_BLC = flow.interpolate(answer_BLC, again_BLC, again_B)[0]
            verdicts.append(-objective.discriminator(objective.features(noised_BLC, again_B, plan)).mean())
    slope = (verdicts[0] - verdicts[1]) / 2e-3
    assert slope == pytest.approx(float(found.abs().sum()), rel=0.05), name


def test_the_discriminators_losses() -> None:
    heads = Discriminator(8, [0, 3], 4)
    features = {layer: torch.randn(2, 5, 8) for layer in (0, 3)}
    assert heads(features).shape == (2, 2, 5)
    sure = torch.full((2, 2, 5), 2.0)
    assert hinge(sure, -sure, None) == 0
    assert hinge(-sure, sure, None) == 6
    weights_BL = torch.zeros(2, 5)
    weights_BL[:, 0] = 1  # one token counts
    mixed = sure.clone()
    mixed[..., 1:] = -9
    assert hinge(mixed, -sure, weights_BL) == 0
    penalty = r1(heads, features, None)
    penalty.backward()
    assert penalty > 0
    assert all(p.grad is not None for name, p in heads.named_parameters() if name.endswith("0.weight"))


@pytest.mark.slow
@pytest.mark.parametrize("objective", [GUIDANCE, LADD, PROGRESSIVE])
def test_a_distillation_outlives_a_stop(distilled: Any, tmp_path: Path, objective: str) -> None:
    few = (objective, "fit.steps=4", "fit.save_every=2")
    _, whole = train(distilled("whole", *few))
    copied(whole / "checkpoint-0000002", tmp_path / "parts" / "checkpoint-0000002")
    train(distilled("parts", *few, "fit.resume=latest"))
    assert_same(whole / "checkpoint-0000004", tmp_path / "parts" / "checkpoint-0000004")


@pytest.mark.slow
def test_guidance_is_learnt_in_twenty_steps(distilled: Any, tmp_path: Path) -> None:
    """The guidance input starts without meaning, and moves towards true guidance."""
    _, output = train(distilled("run", GUIDANCE, "fit.steps=20", "fit.optim.lr=3e-3", "lora.rank=8"))
    lines = metrics_log.recent_losses(output / "log.jsonl", 20)
    first, last = sum(lines[:5]), sum(lines[-5:])
    assert last < first
    assert "guidance from 1 to 3 has a meaning" in (output / "export" / "README.md").read_text()


@pytest.mark.slow
def test_a_progressive_student_learns_in_twenty_steps(distilled: Any) -> None:
    """One step comes nearer to where four of the teacher's lead."""
    few = ("distill.progressive={steps: 1, teacher_steps: 4}", "fit.steps=20", "fit.optim.lr=2e-3")
    _, output = train(distilled("run", *few))
    lines = metrics_log.recent_losses(output / "log.jsonl", 20)
    assert sum(lines[-5:]) < sum(lines[:5])
    assert (
        "(progressive distillation): edit with steps=1, guidance=1"
        in (output / "export" / "README.md").read_text()
    )


@pytest.mark.slow
def test_heads_learn_in_twenty_steps(distilled: Any) -> None:
    """They tell the answers of one step, by a student that stays as it is, from the true ones."""
    still = ("fit.optim.lr=0.0", "fit.optim.lr_of={discriminator: 0.02}", "distill.ladd.noise_mean=-1.5")
    _, output = train(distilled("run", "distill.ladd.steps=1", "fit.steps=20", *still))
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    apart = [line["real"] - line["fake"] for line in lines]
    assert sum(apart[-5:]) > sum(apart[:5])
    assert sum(line["loss"] for line in lines[-5:]) < sum(line["loss"] for line in lines[:5])
    assert "edit with steps=1, guidance=1" in (output / "export" / "README.md").read_text()


REFUSED = [
    (("distill.guidance={}", "distill.ladd={}"), "exactly one of guidance, ladd and progressive"),
    (("distill={}",), "exactly one of guidance, ladd and progressive"),
    (("distill.progressive.steps=3",), "a multiple, not 3 and 28"),
    ((PROGRESSIVE, "times=uniform"), "leave out times"),
    ((LADD, "distill.ladd.steps=3"), "one of 1, 2, 4, 8, not 3"),
    (("distill.guidance.scales=[3.0,1.0]",), "the smaller first"),
    ((LADD, "text_encoders=true", "trainable=full"), "leave out text_encoders"),
    ((LADD, "mixture.known.prior=true"), "leave out a mixture's prior"),
    ((LADD, "weighting=cosmap"), "leave out weighting"),
    ((LADD, "load.compile=true"), "leave out load.compile"),
    (("load.cache={type: FirstBlockCacheConfig}",), "nothing trains; leave it out"),
    (("distill.lad.steps=4",), "did you mean"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda each: str(each)[:40])
def test_contradictions_are_refused_in_one_sentence(changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(EditkitError, match=said) as caught:
        config.build(EditTrainConfig, {}, changes)
    assert str(caught.value).count(". ") == 0


def test_a_block_that_is_not_there_is_refused(distilled: Any) -> None:
    job, batch = made(distilled("run", LADD, "distill.ladd.layers=[99]"))
    with pytest.raises(EditkitError, match="has no block 99; its 6 blocks count from 0 to 5"):
        job.objective(batch)
