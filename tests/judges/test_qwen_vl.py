"""The judges that people use: Qwen's vision-language models with random weights and their own processors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor

from editkit import judges
from editkit.judges import Case
from tests.pictures import image

pytest.importorskip("torchvision", reason="Qwen's processors need torchvision", exc_type=ImportError)

START, END = "<|im_start|>", "<|im_end|>"
SIGHT = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZES = {"hidden_size": 32, "intermediate_size": 64}
TEXT = {**SIZES, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
SEEING = {**SIZES, "depth": 2, "num_heads": 2, "out_hidden_size": 32}


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and the tokens that Qwen's templates are made of."""
    bytes_alone = {byte: place for place, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=bytes_alone, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in (START, END, *SIGHT.values())])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END)


def qwen2_5(tokens: dict[str, int], text: dict[str, Any]) -> tuple[Any, type, Any, int]:
    """Model, processor, video processor and width of a patch."""
    config = transformers.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        vision_config=SEEING | {"patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56},
        **tokens,
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    return model, transformers.Qwen2_5_VLProcessor, transformers.Qwen2VLVideoProcessor, 14


def qwen3(tokens: dict[str, int], text: dict[str, Any]) -> tuple[Any, type, Any, int]:
    """Model, processor, video processor and width of a patch."""
    seeing = SEEING | {"patch_size": 16, "deepstack_visual_indexes": [1], "num_position_embeddings": 64}
    sections = {"rope_type": "default", "mrope_section": [3, 3, 2], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        text_config=text | {"rope_parameters": sections},
        vision_config=seeing,
        **tokens,
    )
    model = transformers.Qwen3VLForConditionalGeneration(config)
    return model, transformers.Qwen3VLProcessor, transformers.Qwen3VLVideoProcessor, 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", [True, False])
@pytest.mark.parametrize("make", [qwen2_5, qwen3])
def test_it_is_asked_and_its_reply_is_read(
    make: Callable[..., tuple[Any, type, Any, int]], source: bool, dtype: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    words = tokenizer()
    tokens = {name: words.convert_tokens_to_ids(token) for name, token in SIGHT.items()}
    ends = {"vocab_size": len(words), "bos_token_id": None, "eos_token_id": words.eos_token_id}
    model, processor, video, patch = make(tokens, TEXT | ends)
    model.save_pretrained(tmp_path)
    processor(
        image_processor=Qwen2VLImageProcessor(patch_size=patch, min_pixels=56 * 56, max_pixels=256 * 256),
        video_processor=video(patch_size=patch),
        tokenizer=words,
        chat_template=TEMPLATE,
    ).save_pretrained(tmp_path)
    options = {"model": str(tmp_path), "device": "cpu", "dtype": dtype, "max_new_tokens": 8}
    judge = judges.load_judge("qwen-vl", options)
    shown = image(128, 96) if source else None
    verdict = judge.compare(Case(source=shown, instruction="make it red"), image(128, 96), image(96, 128))
    assert len(verdict.reply) > 0
    assert verdict.better == ""  # random weights name nobody
    assert "no single answer" in verdict.problem
