"""Mixtures of datasets, and priors on what the model knew before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editkit import EditkitError
from editkit.data.records import MixedConfig
from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig
from tests.command_line import copied
from tests.train.runs import assert_same, train


def test_mixtures(settings: Any) -> None:
    more = "mixture.more.weight=0.5", "mixture.more.data.count=8", "mixture.more.data.kinds.letter=1.0"
    job = EditJob(settings("run", "data.count=12", *more))
    drawn = [job.batch(range(number * 4, number * 4 + 4)).groups[0][1] for number in range(30)]
    letters = [all("letter" in words for words in batch) for batch in drawn]
    assert sum(letters) == 10
    assert all(abs(sum(letters[:number]) - number / 3) < 1 for number in range(30))
    assert len({tuple(batch) for batch in drawn}) > 10


@pytest.fixture
def prior(settings: Any) -> Any:
    """A function that gives a LoRA run on known weights, every other batch of which keeps what they say."""

    def make(output: str, *overrides: str) -> EditTrainConfig:
        chosen = settings(output, "data.count=8", *overrides, trainable="lora")
        known = {"known": MixedConfig(data=chosen.data, prior=True)}
        return replace(chosen, fresh={}, backbone="tiny", mixture=known)

    return make


def test_a_prior_is_what_the_model_said_before(prior: Any) -> None:
    job = EditJob(prior("run", "fit.batch=1"))
    job.placed()
    batches = [job.batch(range(number, number + 1)) for number in range(2)]
    assert [batch.mixed.prior for batch in batches] == [False, True]
    with torch.no_grad():
        assert job.objective(batches[0]) > 0 == job.objective(batches[1])
        trained = [p for p in job.objective.parameters() if p.requires_grad]
        for parameter in trained:
            parameter += 0.01
        moved = [parameter.clone() for parameter in trained]
        assert job.objective(batches[1]) > 0
        with torch.autocast("cpu", torch.bfloat16):
            assert job.objective(batches[1]) > 0
    with torch.autocast("cpu", torch.bfloat16):
        job.objective(batches[1]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in trained)
    assert all(torch.equal(p, as_moved) for p, as_moved in zip(trained, moved, strict=True))


def test_a_mixtures_loss_has_a_weight(settings: Any) -> None:
    heavy, plain = (
        EditJob(settings("run", "mixture.more.data.count=8", f"mixture.more.loss_weight={weight}"))
        for weight in (3.0, 1.0)
    )
    heavy.objective.load_state_dict(plain.objective.state_dict())
    with torch.no_grad():
        for start, factor in ((0, 1), (4, 3)):  # the run's own data first, then the mixture's
            places = range(start, start + 4)
            expected = factor * plain.objective(plain.batch(places))
            assert torch.allclose(heavy.objective(heavy.batch(places)), expected)
    with pytest.raises(EditkitError, match="loss_weight must be positive"):
        settings("run", "mixture.more.loss_weight=0")


def test_a_mixture_has_a_weight_of_changed_tokens_of_its_own(settings: Any) -> None:
    """On weights whose autoencoder gives the same latents where a picture stays as it is."""
    more = "mixture.more.data.count=8"
    own, heavy, plain = (
        EditJob(replace(settings("run", more, *changes), fresh={}, backbone="tiny"))
        for changes in (("changed_weight=8", "mixture.more.changed_weight=1"), ("changed_weight=8",), ())
    )
    with torch.no_grad():
        for start, alike, other in ((0, heavy, plain), (4, plain, heavy)):  # its own data, then the mixture's
            places = range(start, start + 4)
            found = own.objective(own.batch(places))
            assert torch.allclose(found, alike.objective(alike.batch(places)))
            assert not torch.allclose(found, other.objective(other.batch(places)))
    with pytest.raises(EditkitError, match="a mixture's changed_weight must be positive, not 0"):
        settings("run", "mixture.more.changed_weight=0")


def test_a_prior_outlives_a_stop(prior: Any, tmp_path: Path) -> None:
    """The second step is the prior's, and needs the weights from before the first."""
    few = ("fit.steps=2", "fit.save_every=1", "fit.batch=2")
    _, whole = train(prior("whole", *few))
    copied(whole / "checkpoint-0000001", tmp_path / "parts" / "checkpoint-0000001")
    train(prior("parts", *few, "fit.resume=latest"))
    assert_same(whole / "checkpoint-0000002", tmp_path / "parts" / "checkpoint-0000002")
    card = (whole / "export" / "README.md").read_text()  # names every dataset
    assert "Data: shapesworld; kinds: " in card
    known = next(line for line in card.splitlines() if line.startswith("known: shapesworld; kinds: "))
    assert "learnt as the model saw it before training" in known


def test_a_prior_wants_words_that_stay_as_they_are(settings: Any) -> None:
    with pytest.raises(EditkitError, match="prior needs text encoders that do not train"):
        settings("run", "mixture.known.prior=true", "text_encoders=true")
