"""A vision-language model with random weights over a vocabulary of whole words: transformers' Idefics3."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from editkit import shapesworld
from editkit.shapesworld.render import CELLS
from editkit.shapesworld.world import LETTERS, STYLES

PAD, UNKNOWN, AROUND, GLOBAL, PICTURE, END = (
    "<pad>",
    "<unk>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
)
BETTER = {"first": '{"better": "A"}', "second": '{"better": "B"}', "": '{"better": "tie"}'}
TOP_MARK = 9
# Words go first, so that a picture's tokens can look at what was to be done to it.
TEMPLATE = (
    "{% for message in messages %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "<end_of_utterance>{% endfor %}"
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes. A square `picture` wide becomes (picture / patch / 2)^2 tokens of the language model."""

    picture: int = 64
    patch: int = 8
    vision_width: int = 128
    vision_layers: int = 4
    width: int = 192
    layers: int = 4
    head: int = 32

    def __post_init__(self) -> None:
        if self.picture % CELLS or self.picture % (2 * self.patch):
            raise ValueError(f"picture must be a multiple of ShapesWorld's {CELLS} cells and of two patches")
        if self.vision_width % self.head or self.width % self.head:
            raise ValueError("both widths must be multiples of head")

    @property
    def tokens(self) -> int:
        """Tokens of a picture."""
        return (self.picture // self.patch // 2) ** 2


def tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Word-level: lower case, punctuation dropped, single capital letters kept apart, an answer one token."""
    special = [PAD, UNKNOWN, AROUND, GLOBAL, PICTURE, END]
    plain = [*map(str, range(TOP_MARK + 1)), *dict.fromkeys(word.lower() for word in words)]
    vocabulary = [*special, *BETTER.values(), *LETTERS, *plain]
    made = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=UNKNOWN)
    )
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), behavior="removed", invert=True)
    made.add_special_tokens(special)
    made.add_tokens([AddedToken(answer, normalized=False) for answer in BETTER.values()])
    made.add_tokens([AddedToken(letter, single_word=True, normalized=False) for letter in LETTERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=512,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )


def create_model(config: ModelConfig, words: Sequence[str]) -> tuple[Any, Any]:
    """Model and processor.

    Args:
        config: sizes.
        words: the vocabulary beside ShapesWorld's; its order fixes the ids.
    """
    names = [*words, *sorted(shapesworld.words() | {"no", *STYLES})]
    made = tokenizer(names)
    side = {"longest_edge": config.picture}
    pictures = Idefics3ImageProcessorPil(
        size=side,
        max_image_size=side,
        do_image_splitting=False,
        resample=4,  # Pillow's box filter, which leaves ShapesWorld's cells whole
    )
    processor = Idefics3Processor(pictures, made, image_seq_len=config.tokens, chat_template=TEMPLATE)
    ends = {
        "pad_token_id": made.pad_token_id,
        "bos_token_id": made.eos_token_id,
        "eos_token_id": made.eos_token_id,
    }
    language = {
        "model_type": "llama",
        "vocab_size": len(made),
        "hidden_size": config.width,
        "intermediate_size": config.width * 8 // 3,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.width // config.head,
        "max_position_embeddings": 512,
        **ends,
    }
    vision = {
        "hidden_size": config.vision_width,
        "intermediate_size": config.vision_width * 3,
        "num_hidden_layers": config.vision_layers,
        "num_attention_heads": config.vision_width // config.head,
        "image_size": config.picture,
        "patch_size": config.patch,
    }
    image_token = made.convert_tokens_to_ids(PICTURE)
    whole = Idefics3Config(
        text_config=language,
        vision_config=vision,
        scale_factor=2,
        image_token_id=image_token,
        tie_word_embeddings=True,
        **ends,
    )
    model = Idefics3ForConditionalGeneration(whole)
    model.generation_config.update(**ends)
    return model.to(torch.float32), processor
