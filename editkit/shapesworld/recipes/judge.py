"""Trains a small vision-language judge from random weights on ShapesWorld's pairs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from editkit import shapesworld
from editkit.errors import EditkitError, first_sentence
from editkit.shapesworld.recipes import judge_attempts, judge_conversations, judge_model, judge_pairs
from editkit.shapesworld.recipes.judge_attempts import AttemptsConfig
from editkit.shapesworld.recipes.judge_conversations import JudgeExample
from editkit.shapesworld.recipes.judge_pairs import Pair
from editkit.train.config import FitConfig
from editkit.train.job import Job

TIES = 0.03
SKIPPED = -100


@dataclass(frozen=True, kw_only=True)
class JudgeTrainConfig:
    """A judge's training run."""

    recipe: str = "judge"
    model: judge_model.ModelConfig = field(default_factory=judge_model.ModelConfig)
    words: str = "configs/tiny/words.txt"
    """File of the words that the vocabulary holds beside ShapesWorld's, one a line."""
    tasks: int = 8000
    """Edits to make pairs of."""
    graded: float = 0.7
    """Share of pairs of mixtures, as previews look; the others are finished pictures."""
    attempts: AttemptsConfig = field(default_factory=AttemptsConfig)
    """What a method really makes, among the pairs."""
    captions: float = 1.0
    """Weight of the loss of describing the pictures, which is how the model learns to see."""
    compile: bool = False
    """Compile the layers with torch.compile; on a CPU a step then takes two thirds of the time."""
    start: str = ""
    """Folder of a judge to go on from, of the same sizes and words; random weights where empty."""
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeBatch:
    """Conversations, padded on the right, and all their pictures in a row.

    Attributes:
        ids_BL: tokens.
        reply_BL: the token that should follow where it belongs to the answer, else -100.
        caption_BL: the same for the descriptions.
        pixels_NCHW: pictures in [-1, 1].
    """

    ids_BL: Tensor
    reply_BL: Tensor
    caption_BL: Tensor
    pixels_NCHW: Tensor


class JudgeObjective(nn.Module):
    """Cross entropy of the answer's tokens, and of the descriptions' that follow it in training only."""

    def __init__(self, model: Any, captions: float) -> None:
        super().__init__()
        # Named so first, the layers' matrices are what Muon takes for transformer blocks.
        self.vision_blocks = model.model.vision_model.encoder.layers
        self.language_blocks = model.model.text_model.layers
        self.model, self.captions = model, captions

    def forward(self, batch: JudgeBatch) -> Tensor:
        states_BLC = self.model.model(
            input_ids=batch.ids_BL, pixel_values=batch.pixels_NCHW[None], use_cache=False
        ).last_hidden_state
        losses: list[Tensor] = []
        for targets_BL in (batch.reply_BL, batch.caption_BL):
            chosen = targets_BL != SKIPPED
            logits_NV = self.model.lm_head(states_BLC[chosen])
            losses.append(F.cross_entropy(logits_NV.float(), targets_BL[chosen]))
        return losses[0] + self.captions * losses[1]


class JudgeJob(Job):
    """Pairs in, a folder in transformers' layout out."""

    def __init__(self, config: JudgeTrainConfig) -> None:
        torch.manual_seed(config.fit.seed)
        self.settings = self.config = config
        if not Path(config.words).is_file():
            raise EditkitError(f"words={config.words} is no file that exists; give one with a word a line.")
        self.model, self.processor = judge_model.create_model(
            config.model, Path(config.words).read_text().split()
        )
        if config.start:
            _take_over(self.model, self.processor.tokenizer, Path(config.start))
        # At these sizes the fused attention's backward pass takes longer on a CPU than everything else.
        self.model.set_attn_implementation("eager")
        self.objective = JudgeObjective(self.model, config.captions)
        if config.compile:
            for layer in (*self.objective.vision_blocks, *self.objective.language_blocks):
                layer.compile()
        wanted = config.attempts.method is not None
        self._attempts = judge_attempts.recorded(config.attempts, config.model.picture) if wanted else None
        self._ids: dict[str, list[int]] = {}

    def batch(self, indices: Sequence[int]) -> JudgeBatch:
        shown = [self._example(index) for index in indices]
        rows = [self._conversation(example) for example in shown]
        device = next(self.model.parameters()).device
        ids, reply, caption = (
            nn.utils.rnn.pad_sequence([torch.tensor(row[k]) for row in rows], True, padding).to(device)
            for k, padding in enumerate((self.processor.tokenizer.pad_token_id, SKIPPED, SKIPPED))
        )
        pixels_NCHW = (torch.stack([each for example in shown for each in example.pictures]) * 2 - 1).to(
            device
        )
        return JudgeBatch(ids_BL=ids, reply_BL=reply, caption_BL=caption, pixels_NCHW=pixels_NCHW)

    def _example(self, index: int) -> JudgeExample:
        rng = random.Random(f"lesson {self.config.fit.seed} {index}")
        if self._attempts is not None and rng.random() < self.config.attempts.share:
            return self._attempts.example(rng.randrange(self.config.attempts.edits), rng)
        return judge_conversations.drawn(self._pair(index), self.config.model.picture)

    def _pair(self, index: int) -> Pair:
        rng = random.Random(f"sample {self.config.fit.seed} {index}")
        task = judge_pairs.task(shapesworld.TRAINING_START + index % self.config.tasks)
        pair = judge_pairs.pair(task, rng.getrandbits(32), graded=rng.random() < self.config.graded)
        if rng.random() < TIES:
            again = replace(pair.first, seed=rng.getrandbits(32))
            return Pair(task=task, first=pair.first, second=again)
        return pair

    def _conversation(self, example: JudgeExample) -> tuple[list[int], ...]:
        """Tokens, and what should follow each of them in the answer and in the descriptions."""
        asked = self._tokens(example.instruction + self._pictures(len(example.pictures)) + judge_model.END)
        reply = self._tokens(example.reply + judge_model.END)
        captions, targets = [], []
        for scene, clear in zip(example.scenes, example.clear, strict=True):
            tokens = self._tokens(" ".join(judge_conversations.parts(scene)))
            captions += tokens
            targets += tokens if clear else [SKIPPED] * len(tokens)
        before, after = [SKIPPED] * (len(asked) - 1), [SKIPPED] * len(captions)
        return (
            [*asked, *reply, *captions],
            [*before, *reply, *after, SKIPPED],
            [*before, *([SKIPPED] * len(reply)), *targets, SKIPPED],
        )

    def _pictures(self, count: int) -> str:
        """Return what the processor makes of so many pictures."""
        tokens = judge_model.PICTURE * self.config.model.tokens
        return (judge_model.AROUND + judge_model.GLOBAL + tokens + judge_model.AROUND) * count

    def _tokens(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self.processor.tokenizer(text).input_ids
        return self._ids[text]

    def export(self, folder: Path) -> None:
        """Save in transformers' layout, bf16."""
        plain = type(self.model)(self.model.config)  # compiled layers cannot be copied
        plain.load_state_dict(self.model.state_dict())
        plain.generation_config = self.model.generation_config
        plain.to(torch.bfloat16).save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _take_over(model: Any, tokenizer: Any, folder: Path) -> None:
    """Give a model the weights of a judge in a folder.

    Raises:
        EditkitError: where there are none, or they are of other sizes or words.
    """
    if not all((folder / name).is_file() for name in ("model.safetensors", "tokenizer.json")):
        raise EditkitError(f"start={folder} holds no judge; give a folder that this recipe exported.")
    try:
        words = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True).get_vocab()
        missing, extra = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EditkitError(f"start={folder} is no judge of these sizes ({first_sentence(error)}).") from error
    if words != tokenizer.get_vocab() or extra or set(missing) - {"lm_head.weight"}:  # which is tied
        raise EditkitError(f"start={folder} is a judge of other words or layers; train from random weights.")


CONFIG, JOB = JudgeTrainConfig, JudgeJob
