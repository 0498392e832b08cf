"""Judge with a model on this machine: any of transformers' models that read pictures and text."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from editkit.backbone import provider
from editkit.errors import EditkitError, first_sentence
from editkit.judges.base import Case, Judge, Reply
from editkit.judges.vlm.lora import with_lora
from editkit.judges.vlm.prompt import ANSWER, QUESTION, question, read_reply
from editkit.judges.vlm.weights import check_memory, folder_of, revision
from editkit.quiet import no_bars
from editkit.search_types import Verdict

ANSWER_TOKEN = re.compile(r"(.*(?<![A-Za-z]))(?:A|B|tie)((?![A-Za-z]).*)")
"""Pattern of a token that holds an answer, with the characters around it."""
LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    SafetensorError,
)


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig:
    """Options of a local judge: its model, its device and its question."""

    model: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """A Hub id or a folder, with weights in safetensors; a tuned checkpoint is one too."""
    lora: str | None = None
    """A LoRA on top of it, as PEFT saves it: a Hub id or a folder with adapter_model.safetensors."""
    dtype: str | None = None
    """`float32`, `bfloat16` or `float16`; the device's default where null."""
    device: str | None = None
    """`cpu`, `cuda` or `mps`; the best one here where null."""
    quantization: dict[str, Any] = field(default_factory=dict)
    """Arguments of transformers' BitsAndBytesConfig, such as load_in_4bit: true; needs bitsandbytes."""
    max_new_tokens: int = 64
    """Largest number of tokens of a reply."""
    temperature: float = 0.0
    """Sampling temperature under a rubric; 0 takes the likeliest words, as comparisons always do."""
    question: str = QUESTION
    """The question; {instruction} stands for the instruction and {opening} for an introduction."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or positive, not {self.temperature}")
        try:
            asked = self.question.format(opening="", instruction="\0")
        except (KeyError, IndexError, ValueError):
            asked = ""
        if "\0" not in asked:
            raise ValueError("question must hold the place {instruction}, and no other than {opening}")


class VisionLanguageJudge(Judge):
    """Shows a model the original and both edits and reads its likeliest reply; an unreadable one is a tie.

    Raises:
        EditkitError: where the model is absent, damaged, pickled, too large for this machine, or takes no
            pictures.
    """

    follows_rubrics = True

    def __init__(self, config: VisionLanguageConfig) -> None:
        self.config = config
        backbones = provider()
        device = backbones.device(config.device)
        self._dtype = backbones.dtype(config.dtype, device)
        folder = folder_of(config.model)
        if not config.quantization:
            check_memory(folder, device, self._dtype)
        with _in_words(config.model):
            self._processor, self._model = _load(folder, self._dtype, device, config.quantization)
        self._revision = {"revision": revision(folder)}
        if config.lora is not None:
            adapter = folder_of(config.lora)
            self._model = with_lora(self._model, adapter, config.lora, merge=not config.quantization)
            self._revision |= {"lora": config.lora, "lora revision": revision(adapter)}

    def identity(self) -> Mapping[str, Any]:
        """Model, LoRA, their revisions, precision and sampling."""
        config = self.config
        return {
            "model": config.model,
            **self._revision,
            "dtype": str(self._dtype).removeprefix("torch."),
            "quantization": dict(config.quantization),
            "temperature": config.temperature,
            "max_new_tokens": config.max_new_tokens,
        }

    @torch.no_grad()
    def ask(self, question: str, pictures: Sequence[Image.Image], attempt: int = 0) -> Reply:
        """Answer a question about pictures; an attempt is the seed where the judge samples.

        Raises:
            EditkitError: where the model cannot take the question or there is too little memory.
        """
        start = time.perf_counter()
        sampling: dict[str, Any] = {"do_sample": False}
        if self.config.temperature:
            sampling = {"do_sample": True, "temperature": self.config.temperature, "top_k": 0, "top_p": 1.0}
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(attempt)
            reply, _, _ = self._generated(question, pictures, **sampling)
        return Reply(text=reply, seconds=time.perf_counter() - start)

    @torch.no_grad()
    def compare(self, case: Case, first: Image.Image, second: Image.Image) -> Verdict:
        """Ask the model which edit is better.

        Raises:
            EditkitError: where the model cannot take the question or there is too little memory.
        """
        start = time.perf_counter()
        pictures = [picture for picture in (case.source, first, second) if picture is not None]
        reply, new_L, logits = self._generated(
            question(case, self.config.question), pictures, do_sample=False
        )
        better, problem = read_reply(reply)
        lead = None if problem else _lead(self._processor.tokenizer, new_L, logits)
        seconds = time.perf_counter() - start
        return Verdict(better=better, reply=reply, seconds=seconds, problem=problem, lead=lead)

    def _generated(
        self, text: str, pictures: Sequence[Image.Image], **sampling: Any
    ) -> tuple[str, list[int], Sequence[Tensor]]:
        """A reply, its tokens, and the logits (1, vocabulary) of each."""
        content: list[dict[str, Any]] = [{"type": "image", "image": each.convert("RGB")} for each in pictures]
        content.append({"type": "text", "text": text})
        with _in_words(self.config.model):
            inputs = self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(self._model.device, self._dtype)
            made = self._model.generate(
                **inputs,
                **sampling,
                max_new_tokens=self.config.max_new_tokens,
                output_logits=True,
                return_dict_in_generate=True,
            )
            new_BL = made.sequences[:, inputs["input_ids"].shape[1] :]
            (reply,) = self._processor.batch_decode(new_BL, skip_special_tokens=True)
        return reply, new_BL[0].tolist(), made.logits


def _lead(tokenizer: Any, reply: list[int], logits: Sequence[Tensor]) -> float | None:
    """Return the log-odds of A over B at the token of the reply that holds the answer.

    None where the vocabulary has no such single tokens, for example where it splits `tie` into several.

    Args:
        tokenizer: the model's tokenizer.
        reply: token ids of the reply.
        logits: logits (1, vocabulary) for each token of the reply.
    """
    answered = (end for end in range(1, len(reply) + 1) if ANSWER.search(tokenizer.decode(reply[:end])))
    for place in reversed(range(next(answered, 0))):
        if found := ANSWER_TOKEN.fullmatch(tokenizer.convert_ids_to_tokens(reply[place]) or ""):
            before, after = found.groups()
            first, second = tokenizer.convert_tokens_to_ids([f"{before}{letter}{after}" for letter in "AB"])
            if {first, second} & {None, tokenizer.unk_token_id}:
                return None
            return float(logits[place][0, first].float() - logits[place][0, second].float())
    return None


@contextmanager
def _in_words(model: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:  # Qwen's processors want torchvision, for videos
        raise EditkitError(
            f"The judge's model {model} needs a package ({first_sentence(error)}); install it."
        ) from error
    except LOADING_ERRORS as error:
        raise EditkitError(
            f"The judge's model {model} cannot be used ({first_sentence(error)}); give a vision-language "
            f"model's whole folder or Hub id, such as Qwen/Qwen2.5-VL-7B-Instruct."
        ) from error


def _load(
    folder: Path, dtype: torch.dtype, device: torch.device, quantization: dict[str, Any]
) -> tuple[Any, Any]:
    """Load a processor and a model."""
    from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

    # Build this first: it is quick, and loading the model may not be.
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if not getattr(processor, "image_processor", None) or not getattr(processor, "chat_template", None):
        raise ValueError("its processor has no pictures or no chat template")
    extra: dict[str, Any] = {}
    if quantization:
        extra = {"quantization_config": BitsAndBytesConfig(**quantization), "device_map": {"": device}}
    options = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True, **extra}
    with no_bars():
        model, found = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, **options)
    # transformers fills missing weights with random values and only logs it.
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"its files lack {len(missing)} tensors of its config, such as {missing[0]}")
    return processor, model.eval() if quantization else model.to(device).eval()


CONFIG, JUDGE = VisionLanguageConfig, VisionLanguageJudge
