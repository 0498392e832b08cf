"""Make small text encoders with random weights over a vocabulary of whole words."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedConfig, T5Config, T5EncoderModel

from backbones.text import Encoders
from backbones.word_tokenizer import word_tokenizer
from editkit.errors import EditkitError, unknown

NEIGHBOUR_LOGIT = 6.0
"""Attention logit with which a head of T5's first block looks at one neighbour."""


def random_encoders(
    words: Sequence[str], *, letters: str, clip: dict[str, Any], t5: dict[str, Any], length: int
) -> Encoders:
    """Create small text encoders with random weights over a vocabulary of whole words.

    Args:
        words: the vocabulary.
        letters: capital letters that are words of their own.
        clip: config of the CLIP text model.
        t5: config of the T5 encoder.
        length: tokens of a prompt.

    Raises:
        EditkitError: for a key that transformers' configs do not have.
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
    """Initialise random encoders so that their features show which words stand where.

    With the usual random weights, most of a feature is noise that all prompts share, and a new transformer
    learns to ignore it. Here T5 starts as word embeddings with a part of their neighbours mixed in, and
    CLIP's pooled feature starts as the mean of a prompt's words.
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
