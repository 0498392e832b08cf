"""OpenAI's image API: its fields become edits, and results become its answers.

A field that OpenAI has and editkit does not is named in the answer's `notes`, or refused where leaving it out
would give another picture than was asked for.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from editkit import registry
from editkit.errors import unknown
from editkit.imaging import format_limits, images
from editkit.request import EditRequest
from editkit.serving import limits, request_fields
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings
from editkit.types import EditResult

OWN = ("prompt", "n", "model", "response_format", "output_format", "adapter")
"""Fields read here; all others of `EditRequest` are read by `request_fields`."""
WITHOUT_EFFECT = (
    "quality", "input_fidelity", "moderation", "user", "safety_identifier", "style", "complexity",
    "output_compression",
)  # fmt: skip
"""Fields of OpenAI's that choose its service rather than the picture."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "stream": (False, "false"),
    "partial_images": (0, "0"),
    "background": ("auto", "opaque"),
    "svg": (),
    "frame_count": (1, "1"),
    "frame_duration_ms": (),
    "markup": (),
}
"""Fields that are refused, but for values that change nothing."""
KNOWN = (*OWN, *request_fields.SETTINGS, *WITHOUT_EFFECT, *NEUTRAL)
"""Fields of a request that are no pictures."""
ITS_MODELS = ("gpt-image", "dall-e", "chatgpt-image")
"""Beginnings of the names of OpenAI's own models; a client that asks for one gets the default method."""
FORMATS: Mapping[str, Mapping[str, Any]] = {"png": images.PNG, "jpeg": images.JPEG, "webp": images.WEBP}
LONGEST = 32_000
"""Characters of a prompt, as with OpenAI."""


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """A request, read but for its pictures.

    Attributes:
        fields: of an `EditRequest`, without pictures.
        count: number of pictures to make; their seeds count up, past all that a search tries.
        adapter: name of an adapter, or None.
        output: a key of `FORMATS`.
        notes: what was given and changes nothing.
    """

    fields: Mapping[str, Any]
    count: int = 1
    adapter: str | None = None
    output: str = "png"
    notes: tuple[str, ...] = ()

    def requests(self, pictures: Mapping[str, Any]) -> list[EditRequest]:
        """Make the edits, of pictures by the names of their fields."""
        seed, search = self.fields["seed"], self.fields.get("search")
        apart = 1 if search is None else search.seeds
        made = {**self.fields, **pictures}
        return [EditRequest(**{**made, "seed": seed + place * apart}) for place in range(self.count)]


def read_fields(given: Mapping[str, Any], settings: ServerSettings, methods: Sequence[str]) -> ImageRequest:
    """Read the fields of a request that are no pictures.

    Args:
        given: by name: text of a form, or values of JSON.
        settings: what a client may ask for.
        methods: methods that are offered, the default first.

    Raises:
        EditkitError: for an unknown field or method, or a value that is not allowed.
    """
    for name in given:
        if name not in KNOWN:
            raise RefusedError(unknown("field", name[:80], KNOWN), param=name[:80])
    for name, allowed in NEUTRAL.items():
        value = given.get(name)
        if value not in (None, "", *allowed):
            raise RefusedError(f"{name} is not offered here; leave it out.", param=name)
    notes = [f"{name} has no effect here." for name in WITHOUT_EFFECT if given.get(name) not in (None, "")]
    method, told = _method(given, methods)
    fields = {name: request_fields.read_field(name, given.get(name)) for name in request_fields.SETTINGS}
    limits.check_limits(fields, settings)
    if fields["seed"] is None:
        fields["seed"] = secrets.randbelow(2**31)
    return ImageRequest(
        fields={
            **{name: value for name, value in fields.items() if value is not None},
            "instruction": _prompt(given),
            "method": method,
        },
        count=limits.count(given.get("n"), settings),
        adapter=_word(given, "adapter"),
        output=_output(given),
        notes=(*notes, *told),
    )


def check_output(output: str, size: tuple[int, int]) -> None:
    """Check that a format can hold a picture of this size.

    Raises:
        RefusedError: where a side is too long.
    """
    longest = format_limits.LONGEST_SIDES.get(FORMATS[output]["format"])
    if longest is not None and max(size) > longest:
        given = f"{size[0]}x{size[1]}"
        raise RefusedError(
            f"output_format={output} holds up to {longest:,} pixels a side, the image is {given}; give png.",
            param="output_format",
        )


def models(methods: Sequence[str], backbone: str, started: int) -> dict[str, Any]:
    """List the methods as OpenAI lists models."""
    return {"object": "list", "data": [model(name, methods, backbone, started) for name in methods]}


def model(name: str, methods: Sequence[str], backbone: str, started: int) -> dict[str, Any]:
    """Describe a method as OpenAI describes a model.

    Raises:
        RefusedError: where it is not offered.
    """
    if name not in methods:
        raise RefusedError(unknown("model", name[:80], methods), 404, param="model", code="model_not_found")
    return {"id": name, "object": "model", "created": started, "owned_by": "editkit", "backbone": backbone}


def answer(asked: ImageRequest, results: Sequence[EditResult]) -> dict[str, Any]:
    """Make the answer of results that have pictures; this encodes them.

    Beside OpenAI's fields each result has its seed, recipe, notes and seconds by stage.
    """
    data = []
    for result in results:
        assert result.image is not None
        file = images.encode(result.image, FORMATS[asked.output], result.recipe)
        made = {
            "b64_json": base64.b64encode(file).decode("ascii"),
            "seed": result.recipe["seed"],
            "recipe": dict(result.recipe),
            "notes": [*asked.notes, *dict.fromkeys(result.notes)],
            "timings": dict(result.timings),
        }
        data.append(made | ({"search": result.search.summary()} if result.search else {}))
    first = results[0].image
    assert first is not None
    size = f"{first.width}x{first.height}"
    return {"created": int(time.time()), "data": data, "output_format": asked.output, "size": size}


def _prompt(given: Mapping[str, Any]) -> str:
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RefusedError("The prompt is missing; say in words what to make.", param="prompt")
    if len(prompt) > LONGEST:
        raise RefusedError(f"The prompt is longer than {LONGEST:,} characters; shorten it.", param="prompt")
    return prompt


def _word(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RefusedError(f"{name} must be text.", param=name)
    return value


def _method(given: Mapping[str, Any], methods: Sequence[str]) -> tuple[str, list[str]]:
    """The method that `method` or `model` names, and notes."""
    method, model = _word(given, "method"), _word(given, "model")
    notes = []
    if model is not None and model.startswith(ITS_MODELS):
        notes.append(
            f"model={model[:80]} is OpenAI's; {method or methods[0]} on this server made the picture."
        )
        model = None
    if method is not None and model is not None and method != model:
        raise RefusedError(f"model={model[:80]} and method={method[:80]} differ; give one.", param="model")
    name = method or model or methods[0]
    if name not in methods:
        what = "method" if method else "model"
        raise RefusedError(unknown(what, name[:80], methods), 404, param=what, code="model_not_found")
    registry.method(name)
    return name, notes


def _output(given: Mapping[str, Any]) -> str:
    form = _word(given, "response_format") or "b64_json"
    if form != "b64_json":
        raise RefusedError(
            f"response_format={form[:40]} is not offered; give b64_json.", param="response_format"
        )
    output = _word(given, "output_format") or "png"
    if output not in FORMATS:
        raise RefusedError(unknown("output_format", output[:40], FORMATS), param="output_format")
    return output
