"""Make tokenizers whose tokens are whole words, as the embedded backbone has them."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def word_tokenizer(words: Iterable[str], *, letters: str, kind: str, length: int) -> PreTrainedTokenizerFast:
    """Make a word-level tokenizer: lower case, no punctuation, single capital letters as tokens of their own.

    Args:
        words: the vocabulary; its order fixes the ids.
        letters: capital letters that are tokens, so that the letter A differs from the article.
        kind: `t5` (a prompt ends with </s>) or `clip` (a prompt stands between <|startoftext|> and
            <|endoftext|>).
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
