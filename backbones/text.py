"""FLUX's text side: CLIP's pooled feature and T5's tokens, and the small ones that `tiny` is built with."""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from editkit.errors import EditkitError, unknown
from editkit.types import Text

WORD = re.compile(r"\w+")
CLIP_LENGTH = 77
NEIGHBOUR_LOGIT = 6.0


class Encoders:
    """A pair of text encoders with their tokenizers.

    Args:
        clip: (tokenizer, CLIPTextModel); its tokenizer's `model_max_length` sets the length.
        t5: (tokenizer, T5EncoderModel).
        length: T5 tokens of a prompt.
    """

    def __init__(self, clip: tuple[Any, Any], t5: tuple[Any, Any], length: int) -> None:
        self.clip_tokenizer, self.clip = clip
        self.t5_tokenizer, self.t5 = t5
        self.length = length
        self._extended: dict[tuple[str, ...], Any] = {}

    def __call__(self, prompts: Sequence[str], placeholders: tuple[str, ...] = ()) -> Text:
        """Encode a batch of prompts; padding is encoded too and not masked, as FLUX was trained."""
        pooled_BD = self.clip(
            self._ids(self.clip_tokenizer, prompts, None, self.clip), output_hidden_states=False
        )
        tokens_BTD = self.t5(
            self._ids(self._with(placeholders), prompts, self.length, self.t5), output_hidden_states=False
        )
        return Text(tokens_BTD=tokens_BTD[0], pooled_BD=pooled_BD.pooler_output)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words that a word-level tokenizer does not know; empty for subword tokenizers."""
        if not isinstance(self.t5_tokenizer.backend_tokenizer.model, models.WordLevel):
            return []
        words = WORD.findall(prompt)
        ids = self.t5_tokenizer(words, add_special_tokens=False).input_ids if words else []
        unknown = self.t5_tokenizer.unk_token_id
        return [word for word, (token, *_) in zip(words, ids, strict=True) if token == unknown]

    def too_long(self, prompt: str) -> bool:
        """Whether T5 would cut the prompt."""
        return len(self.t5_tokenizer(prompt, verbose=False).input_ids) > self.length

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        """Whether T5's embedding has rows to spare for these words.

        T5 v1.1 has 28 rows more than pieces; a vocabulary of whole words has none.
        """
        return bool(len(self.t5_tokenizer) + len(placeholders) <= self.t5.shared.num_embeddings)

    def _with(self, placeholders: tuple[str, ...]) -> Any:
        """T5's tokenizer, or a copy of it to which these words are tokens, in their order."""
        if not placeholders:
            return self.t5_tokenizer
        if placeholders not in self._extended:
            tokenizer = copy.deepcopy(self.t5_tokenizer)
            tokenizer.add_tokens(list(placeholders), special_tokens=True)
            self._extended[placeholders] = tokenizer
        return self._extended[placeholders]

    @staticmethod
    def _ids(tokenizer: Any, prompts: Sequence[str], length: int | None, model: Any) -> Tensor:
        encoded = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=length or min(tokenizer.model_max_length, CLIP_LENGTH),
            truncation=True,
            return_tensors="pt",
        )
        ids: Tensor = encoded.input_ids.to(model.device)
        return ids


def word_tokenizer(words: Iterable[str], *, letters: str, kind: str, length: int) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, punctuation dropped, single capital letters kept apart.

    Args:
        words: the vocabulary; its order fixes the ids.
        letters: capital letters that are tokens of their own, so that the letter A is not the article.
        kind: `t5` (ends with </s>) or `clip` (between <|startoftext|> and <|endoftext|>).
        length: the longest sequence.
    """
    # <|endoftext|> must not be 2: transformers then takes the model for an old one and pools elsewhere.
    special = (
        ["<pad>", "</s>", "<unk>"] if kind == "t5" else ["<pad>", "<|endoftext|>", "<|startoftext|>", "<unk>"]
    )
    vocabulary = [*special, *letters, *dict.fromkeys(word.lower() for word in words)]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), behavior="removed", invert=True)
    tokenizer.add_tokens([AddedToken(letter, single_word=True, normalized=False) for letter in letters])
    if kind == "t5":
        template, names = "$A </s>", {"eos_token": "</s>"}
    else:
        template = "<|startoftext|> $A <|endoftext|>"
        names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, tokenizer.token_to_id(token)) for token in names.values()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, pad_token="<pad>", unk_token="<unk>", **names
    )


def fresh(
    words: Sequence[str], *, letters: str, clip: dict[str, Any], t5: dict[str, Any], length: int
) -> Encoders:
    """Small encoders with random weights over a vocabulary of whole words.

    Raises:
        EditkitError: for a key that transformers' configs do not know.
    """
    for kind, values, config in (("clip", clip, CLIPTextConfig), ("t5", t5, T5Config)):
        known = sorted(config().to_dict().keys() - PreTrainedConfig().to_dict().keys())
        if strange := [key for key in values if key not in known and key not in config.attribute_map]:
            raise EditkitError(unknown(f"key of fresh.{kind} called", strange[0], known))
    clip_tokenizer = word_tokenizer(words, letters=letters, kind="clip", length=length)
    t5_tokenizer = word_tokenizer(words, letters=letters, kind="t5", length=length)
    clip_model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            max_position_embeddings=length,
            pad_token_id=clip_tokenizer.pad_token_id,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            **clip,
        )
    )
    t5_model = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            pad_token_id=t5_tokenizer.pad_token_id,
            eos_token_id=t5_tokenizer.eos_token_id,
            **t5,
        )
    )
    _start_from_words(clip_model, t5_model)
    return Encoders((clip_tokenizer, clip_model.eval()), (t5_tokenizer, t5_model.eval()), length)


@torch.no_grad()
def _start_from_words(clip: CLIPTextModel, t5: T5EncoderModel) -> None:
    """Let the features of random encoders say which words stand where, plainly enough to be used at once.

    With the usual random weights most of a feature is noise that all prompts share, and a transformer that
    starts from nothing learns to ignore it. Here T5 starts as word embeddings with a part of their neighbours
    mixed in, CLIP's pooled feature as the mean of a prompt's words.
    """
    torch.nn.init.normal_(t5.shared.weight, std=1.0)
    first = t5.encoder.block[0].layer[0].SelfAttention
    for head in range(first.n_heads):
        offset = (head // 2 + 1) * (1 if head % 2 else -1)
        bucket = first._relative_position_bucket(
            torch.tensor([offset]),
            num_buckets=first.relative_attention_num_buckets,
            max_distance=first.relative_attention_max_distance,
        )
        first.relative_attention_bias.weight[:, head] = 0
        first.relative_attention_bias.weight[bucket, head] = NEIGHBOUR_LOGIT
    for block in t5.encoder.block:
        block.layer[0].SelfAttention.o.weight *= 0.5
        torch.nn.init.zeros_(block.layer[1].DenseReluDense.wo.weight)
    torch.nn.init.normal_(clip.embeddings.token_embedding.weight, std=1.0)
    torch.nn.init.normal_(clip.embeddings.position_embedding.weight, std=0.1)
    for layer in clip.encoder.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
        torch.nn.init.zeros_(layer.self_attn.q_proj.bias)
        torch.nn.init.orthogonal_(layer.self_attn.v_proj.weight)
        torch.nn.init.orthogonal_(layer.self_attn.out_proj.weight)
        torch.nn.init.zeros_(layer.mlp.fc2.weight)
