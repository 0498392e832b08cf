"""Encode prompts with FLUX's text encoders: CLIP's pooled feature and T5's tokens."""

import copy
import re
import threading
from collections.abc import Sequence
from typing import Any

from tokenizers import models
from torch import Tensor

from editkit.types import Text

WORD = re.compile(r"\w+")
CLIP_LENGTH = 77
"""Largest number of tokens of a prompt for CLIP."""


class Encoders:
    """The pair of text encoders with their tokenizers.

    Args:
        clip: (tokenizer, CLIPTextModel); the tokenizer's `model_max_length` sets the length.
        t5: (tokenizer, T5EncoderModel).
        length: number of T5 tokens of a prompt.
    """

    def __init__(self, clip: tuple[Any, Any], t5: tuple[Any, Any], length: int) -> None:
        self.clip_tokenizer, self.clip = clip
        self.t5_tokenizer, self.t5 = t5
        self.length = length
        self._extended: dict[tuple[str, ...], Any] = {}
        # A fast tokenizer keeps padding and truncation as its state: calls in two threads would mix them.
        self._lock = threading.Lock()

    def __call__(self, prompts: Sequence[str], placeholders: tuple[str, ...] = ()) -> Text:
        """Encode a batch of prompts; padding is encoded too and not masked, as in FLUX's training."""
        pooled_BD = self.clip(
            self._ids(self.clip_tokenizer, prompts, None, self.clip), output_hidden_states=False
        )
        tokens_BTD = self.t5(
            self._ids(self._with(placeholders), prompts, self.length, self.t5), output_hidden_states=False
        )
        return Text(tokens_BTD=tokens_BTD[0], pooled_BD=pooled_BD.pooler_output)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words that a word-level tokenizer does not know; none for subword tokenizers."""
        if not isinstance(self.t5_tokenizer.backend_tokenizer.model, models.WordLevel):
            return []
        words = WORD.findall(prompt)
        ids = self._tokens(self.t5_tokenizer, words, add_special_tokens=False).input_ids if words else []
        unknown = self.t5_tokenizer.unk_token_id
        return [word for word, (token, *_) in zip(words, ids, strict=True) if token == unknown]

    def too_long(self, prompt: str) -> bool:
        """Whether T5 would cut off the end of the prompt."""
        return len(self._tokens(self.t5_tokenizer, prompt, verbose=False).input_ids) > self.length

    def has_room_for(self, placeholders: Sequence[str]) -> bool:
        """Whether T5's embedding has spare rows for these words.

        T5 v1.1 has 28 rows more than tokens; a vocabulary of whole words has no spare rows.
        """
        return bool(len(self.t5_tokenizer) + len(placeholders) <= self.t5.shared.num_embeddings)

    def _with(self, placeholders: tuple[str, ...]) -> Any:
        """Return T5's tokenizer, or a copy in which these words are tokens of their own, in this order."""
        if not placeholders:
            return self.t5_tokenizer
        if placeholders not in self._extended:
            tokenizer = copy.deepcopy(self.t5_tokenizer)
            tokenizer.add_tokens(list(placeholders), special_tokens=True)
            self._extended[placeholders] = tokenizer
        return self._extended[placeholders]

    def _tokens(self, tokenizer: Any, texts: str | list[str], **options: Any) -> Any:
        with self._lock:
            return tokenizer(texts, **options)

    def _ids(self, tokenizer: Any, prompts: Sequence[str], length: int | None, model: Any) -> Tensor:
        """Tokenize prompts to a fixed length; return ids on the model's device."""
        encoded = self._tokens(
            tokenizer,
            list(prompts),
            padding="max_length",
            max_length=length or min(tokenizer.model_max_length, CLIP_LENGTH),
            truncation=True,
            return_tensors="pt",
        )
        ids: Tensor = encoded.input_ids.to(model.device)
        return ids
