"""Contents of a step: samples, latents, texts, and the objective over them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.text import Encoders
from editkit import EditkitError, config
from editkit.shapesworld.datasets import ShapesWorld
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from tests.pictures import image
from tests.train.runs import losses, train


@pytest.mark.parametrize("overrides", [[], ["text_encoders=true"], ["trainable=lora"]])
def test_what_trains(settings: Any, overrides: list[str]) -> None:
    job = EditJob(settings("run", *overrides))
    transformer, encoders = job.backbone.transformer("kontext"), job.backbone.encoders
    for name, parameter in transformer.named_parameters():
        assert parameter.requires_grad == ("lora_" in name or overrides != ["trainable=lora"]), name
    for model in (encoders.clip, encoders.t5):
        assert all(p.requires_grad == (overrides == ["text_encoders=true"]) for p in model.parameters())
    assert not any(parameter.requires_grad for parameter in job.backbone.vae.parameters())
    ours = {id(p) for p in job.objective.parameters() if p.requires_grad}
    assert ours == {
        id(p)
        for model in (transformer, encoders.clip, encoders.t5)
        for p in model.parameters()
        if p.requires_grad
    }


def test_batches_pair_source_answer_and_instruction(settings: Any) -> None:
    kinds = ("data.kinds.recolour=0", "data.kinds.background=0", "data.kinds.move=1")
    chosen = settings("run", "data.count=12", *kinds)
    job, data = EditJob(chosen), ShapesWorld(chosen.data)
    records = {record.instruction: record for record in (data[index] for index in range(len(data)))}
    assert len(records) == 12, "two samples share an instruction: take another data.start"
    seen = []
    for number in range(3):
        batch = job.batch(range(4 * number, 4 * number + 4))
        assert len(set(batch.seeds)) == 4
        for place, instruction in enumerate(batch.groups[0][1]):
            record = records[instruction]
            seen.append(instruction)
            answer, source = (
                job.backbone.encode(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)[0]
                for picture in (record.answer, record.source)
            )
            apart = float((answer - source).abs().mean())
            # The cache is computed and kept in bf16, so it is near and not equal.
            assert float((batch.x0_BLC[place] - answer).abs().mean()) < min(0.03, apart / 3)
            given = batch.plan.conditioning.sequence_BSC[place]
            assert float((given - source).abs().mean()) < min(0.03, apart / 3)
    assert Counter(seen) == Counter(list(records))


def test_latents_are_kept_and_told_apart(settings: Any) -> None:
    first, again = (EditJob(settings("run", "data.count=4")) for _ in range(2))
    folders = set(Path(settings().cache).glob("latents-*"))
    one, other = first.batch(range(4)), again.batch(range(4))
    assert torch.equal(one.x0_BLC, other.x0_BLC)
    assert one.groups[0][1] == other.groups[0][1]
    assert one.seeds == other.seeds
    EditJob(settings("run", "data.count=4", "data.start=2000000"))
    assert len(set(Path(settings().cache).glob("latents-*")) - folders) == 1


def test_texts_are_kept_and_encoders_let_go(
    settings: Any, random_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, **changed: Any) -> EditJob:
        few = ("data.count=6", "fit.steps=2")
        chosen = settings(name, *few, "options.prompt_dropout=0.5", trainable="lora")
        return train(replace(chosen, backbone=str(random_pipeline), fresh={}, **changed))[0]

    run("plain")
    cache = str(tmp_path / "cache")
    job = run("kept", cache=cache, cache_texts=True)
    assert job.backbone._encoders is None
    assert job.backbone._vae is None
    kept = set((tmp_path / "cache").glob("texts-*/*"))
    filled = job.sampler.samplers[0].buckets
    words = {words for bucket in filled for each in bucket.samples.wordings() for words in each}
    assert len(kept) == len({"", *words})
    assert losses(tmp_path / "kept") == losses(tmp_path / "plain")
    monkeypatch.setattr(Encoders, "__call__", None)  # so that encoding again would fail
    run("again", cache=cache, cache_texts=True)
    assert losses(tmp_path / "again") == losses(tmp_path / "plain")
    assert set((tmp_path / "cache").glob("texts-*/*")) == kept
    for path in kept:
        path.write_bytes(b"half")
    with pytest.raises(EditkitError, match=r"Encoded prompts in .* cannot be read .*delete this folder"):
        run("damaged", cache=cache, cache_texts=True)


def test_a_sample_depends_on_its_place_alone(settings: Any) -> None:
    job = EditJob(settings())
    one = job.batch(range(8, 12))
    job.batch(range(40, 44))
    again = job.batch(range(8, 12))
    assert torch.equal(one.x0_BLC, again.x0_BLC)
    with torch.no_grad():
        torch.manual_seed(1)
        loss = job.objective(one)
        torch.manual_seed(2)
        assert torch.equal(job.objective(again), loss)


def test_objective_is_the_flow_loss(settings: Any) -> None:
    """Against the definition, written out for one sample."""
    job = EditJob(settings("run", "time_mean=0.3", "time_std=0.5", "guidance=2.5"))
    batch = job.batch(range(4))
    with torch.no_grad():
        loss = job.objective(batch)
        plan = job.conditioner.with_text(*batch.groups[0])
        terms = []
        for place, seed in enumerate(batch.seeds):
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(batch.x0_BLC.shape[1:], generator=generator)
            t = torch.sigmoid(torch.randn(1, generator=generator) * 0.5 + 0.3)
            x0_BLC = batch.x0_BLC.clone()
            x0_BLC[place] = (1 - t) * x0_BLC[place] + t * noise
            predicted = job.backbone.velocity(x0_BLC, t.expand(4), plan, 2.5)[place]
            terms.append(((predicted - (noise - batch.x0_BLC[place])) ** 2).mean())
    assert torch.allclose(loss, torch.stack(terms).mean(), rtol=1e-4)


@torch.no_grad()
def test_sizes_mixed_in_one_batch_count_alike(settings: Any, tmp_path: Path) -> None:
    rows = []
    for number, size in enumerate(((128, 64), (64, 128), (96, 96), (64, 64))):
        for name in ("source", "answer"):
            image(*size, seed=number).save(tmp_path / f"{number}{name}.png")
        rows.append({"source": f"{number}source.png", "answer": f"{number}answer.png", "instruction": "red"})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    plain = dataclasses.asdict(settings("mixed", "options.sizes=exact"))
    plain |= {"mixed_sizes": True, "data": {"name": "jsonl", "path": str(tmp_path / "train.jsonl")}}
    job = EditJob(config.build(EditTrainConfig, plain))
    job.objective.eval()
    batch = job.batch(range(4))
    assert len(batch.groups) == 4
    whole = job.objective(batch)
    losses = []
    order = [plan.canvas.original for plan, _ in batch.groups]
    for number, (plan, words) in enumerate(batch.groups):
        place = next(
            n for n, bucket in enumerate(job.sampler.samplers[0].buckets) if bucket.plan.canvas == plan.canvas
        )
        alone_plan, tensors, _ = job.sampler.samplers[0].buckets[place].take([0], [0], job.backbone.device)
        alone = dataclasses.replace(
            batch,
            plan=alone_plan,
            x0_BLC=tensors["x0_BLC"],
            groups=[(alone_plan, words)],
            weights_BL=None,
            seeds=[batch.seeds[number]],
            places=None,
        )
        losses.append(float(job.objective(alone)))
    assert len(set(order)) == 4
    assert float(whole) == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_one_of_several_wordings_is_drawn_each_time(settings: Any, tmp_path: Path) -> None:
    image(64, 64).save(tmp_path / "a.png")
    row = {"source": "a.png", "answer": "a.png", "instruction": ["make it red", "red, please"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    plain = dataclasses.asdict(settings("run", "fit.batch=1"))
    plain |= {"data": {"name": "jsonl", "path": str(tmp_path / "train.jsonl")}}
    jobs = [EditJob(config.build(EditTrainConfig, plain)) for _ in range(2)]
    drawn = [[job.batch([index]).groups[0][1][0] for index in range(20)] for job in jobs]
    assert drawn[0] == drawn[1]
    assert 3 < Counter(drawn[0])["make it red"] < 17
