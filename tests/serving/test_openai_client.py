"""OpenAI's own client against a server process: every answer is what the API gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

import editkit
from editkit import EditRequest, SeedSearch
from editkit.imaging import images
from editkit.inference import provenance
from tests.command_line import one_sentence
from tests.pictures import difference, image
from tests.serving.server import Served
from tests.serving.uploads import WORDS, file, opened


def same(datum: Any, editor: editkit.Editor, **asked: Any) -> None:
    """Whether an answer's picture and recipe are those of the API."""
    expected = editor.run(EditRequest(**{"instruction": WORDS} | asked))
    assert expected.image is not None, expected.error
    assert difference(opened(datum), expected.image) <= 1
    assert datum.recipe == json.loads(json.dumps(expected.recipe))


def test_a_client_that_knows_only_openais_fields(server: Served, editor: editkit.Editor) -> None:
    source = image(40, 30)
    answer = server.client().images.edit(
        image=file(source), prompt=WORDS, model="gpt-image-1", n=2, size="auto", quality="high"
    )
    assert answer.data is not None
    assert answer.size == "40x30"
    one, two = answer.data
    assert two.seed == one.seed + 1
    for each in (one, two):
        same(each, editor, image=source, seed=each.seed)
        assert any("quality" in note for note in each.notes)
        assert any("gpt-image-1" in note for note in each.notes)


@pytest.mark.parametrize("method", ["kontext", "icedit", "aceplus"])
def test_every_method(server: Served, editor: editkit.Editor, method: str) -> None:
    source = image(40, 30, 1)
    more = {"seed": 3, "steps": 2, "preserve": True}
    for named in ({"extra_body": {"method": method} | more}, {"model": method, "extra_body": more}):
        answer = server.client().images.edit(image=file(source), prompt=WORDS, **named)
        assert answer.data is not None
        same(answer.data[0], editor, image=source, method=method, **more)


def test_masks_are_openais_where_they_are_clear(server: Served, editor: editkit.Editor) -> None:
    source, white = image(40, 30, 2), Image.new("L", (40, 30))
    white.paste(255, (8, 8, 24, 20))
    clear = source.convert("RGBA")
    clear.putalpha(white.point(lambda level: 255 - level))
    for mask in (white, clear):
        answer = server.client().images.edit(
            image=file(source), mask=file(mask), prompt=WORDS, extra_body={"seed": 4, "steps": 2}
        )
        assert answer.data is not None
        same(answer.data[0], editor, image=source, mask=white, seed=4, steps=2)


def test_clear_parts_of_the_image_are_its_mask(server: Served, editor: editkit.Editor) -> None:
    source, white = image(40, 30, 2), Image.new("L", (40, 30))
    white.paste(255, (8, 8, 24, 20))
    clear, opaque = source.convert("RGBA"), source.convert("RGBA")
    clear.putalpha(white.point(lambda level: 255 - level))
    for sent, mask in ((clear, white), (opaque, None)):
        answer = server.client().images.edit(
            image=file(sent), prompt=WORDS, extra_body={"seed": 4, "steps": 2}
        )
        assert answer.data is not None
        (made,) = answer.data
        assert any("taken as its mask" in note for note in made.notes) == (mask is not None)
        same(made, editor, image=source if mask else opaque, mask=mask, seed=4, steps=2)
        assert opened(made).has_transparency_data == (mask is None)


def test_further_images_are_references(server: Served, editor: editkit.Editor) -> None:
    source, reference = image(40, 30, 3), image(32, 32, 4)
    asked = {"method": "aceplus", "seed": 4, "steps": 2}
    answer = server.client().images.edit(
        image=[file(source), file(reference)], prompt=WORDS, extra_body=asked
    )
    assert answer.data is not None
    same(answer.data[0], editor, image=source, references=[reference], **asked)


def test_generations(server: Served, editor: editkit.Editor) -> None:
    asked: dict[str, Any] = {"seed": 7, "steps": 2}
    answer = server.client().images.generate(prompt="a red circle", size="64x64", extra_body=asked)
    assert answer.data is not None
    same(answer.data[0], editor, image=None, instruction="a red circle", size=(64, 64), **asked)


def test_a_seed_search(server: Served, editor: editkit.Editor) -> None:
    source = image(40, 30, 5)
    answer = server.client().images.edit(
        image=file(source), prompt=WORDS, extra_body={"seed": 1, "steps": 4, "search": {"seeds": 3}}
    )
    assert answer.data is not None
    request = EditRequest(image=source, instruction=WORDS, seed=1, steps=4, search=SeedSearch(seeds=3))
    found = editor.run(request)
    assert difference(opened(answer.data[0]), found.image) <= 1
    assert found.search is not None
    assert answer.data[0].search["seed"] == found.search.seed == answer.data[0].seed


def test_searches_of_one_request_try_different_seeds(server: Served) -> None:
    asked: dict[str, Any] = {"seed": 7, "steps": 2, "search": {"seeds": 3}}
    answer = server.client().images.edit(image=file(image(40, 30, 5)), prompt=WORDS, n=3, extra_body=asked)
    assert answer.data is not None
    tried = [each.search["seeds"] for each in answer.data]
    assert tried == [[7, 8, 9], [10, 11, 12], [13, 14, 15]]
    assert all(each.seed in seeds for each, seeds in zip(answer.data, tried, strict=True))


def test_adapters_come_from_the_allowed_folder_alone(
    server: Served, editor: editkit.Editor, adapters: Path
) -> None:
    source, client = image(40, 30, 6), server.client()
    asked: dict[str, Any] = {"seed": 1, "steps": 2}

    def made(**more: Any) -> Any:
        answer = client.images.edit(image=file(source), prompt=WORDS, extra_body=asked | more)
        assert answer.data is not None
        return answer.data[0]

    worn = editor.configured({})
    worn.load_adapter(adapters / "strong.safetensors")
    plain, adapted = made(), made(adapter="strong")
    same(adapted, worn, image=source, **asked)
    assert difference(opened(plain), opened(adapted)) > 10
    same(made(), editor, image=source, **asked)  # the adapter is off again
    outside = adapters.parent / "outside.safetensors"
    for name in ("../outside", str(outside), "outside", "link", "strong.safetensors", "..", "hf://a/b/c"):
        with pytest.raises(openai.BadRequestError, match="no adapter"):
            made(adapter=name)


def test_an_adapter_that_does_not_fit_is_told_by_its_name_alone(server: Served, adapters: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="The adapter misfit cannot be used") as refused:
        server.client().images.edit(
            image=file(image(40, 30)), prompt=WORDS, extra_body={"adapter": "misfit", "steps": 1}
        )
    assert isinstance(refused.value.body, dict)
    one_sentence(refused.value.body["message"])
    assert refused.value.body["param"] == "adapter"
    for hidden in ("/", "safetensors", adapters.name):
        assert hidden not in refused.value.body["message"]
    (told,) = (line for line in server.lines() if line["message"] == "adapter refused")
    assert str(adapters / "misfit.safetensors") in told["problem"]  # the operator's log has it


def test_formats(server: Served) -> None:
    source, recipes = image(40, 30, 7), []
    for output in ("png", "jpeg", "webp"):
        answer = server.client().images.edit(
            image=file(source), prompt=WORDS, output_format=output, extra_body={"seed": 1, "steps": 1}
        )
        assert answer.data is not None
        assert (opened(answer.data[0]).format or "").lower() == answer.output_format == output
        recipes.append(answer.data[0].recipe)
        if output == "png":
            kept = json.loads(opened(answer.data[0]).info[images.RECIPE_KEY])
            assert kept == recipes[0]
            assert kept["source_sha256"] == provenance.pixels_sha256(images.load_image(source))
    assert recipes[0] == recipes[1] == recipes[2]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "field": ({"stepz": 2}, "no field 'stepz'.*'steps'"),
    "method": ({"method": "kontex"}, "no method 'kontex'.*'kontext'"),
    "steps": ({"steps": "many"}, "steps='many'.*whole number"),
    "steps of a half": ({"steps": 1.5}, "whole number"),
    "too many steps": ({"steps": 101}, "1 to 100"),
    "no steps": ({"steps": 0}, "steps=0"),
    "a long draft": ({"speed": "draft=101,full_steps=1"}, "draft=101.*up to 100 steps"),
    "a draft's type": ({"speed": "draft=many"}, "draft"),
    "seed": ({"seed": -1}, "seed=-1"),
    "seed at the end": ({"seed": 2**63}, "seed"),
    "guidance": ({"guidance": "nan"}, "number"),
    "negative guidance": ({"guidance": -1}, "guidance"),
    "preserve": ({"preserve": "perhaps"}, "true or false"),
    "judge": ({"search": {"seeds": 2, "judge": "openai"}}, "judge 'openai' is not offered"),
    "judge's options": ({"search": '{"seeds": 2, "options": {"url": "http://a"}}'}, "operator"),
    "many seeds": ({"search": 17}, "17 seeds"),
    "search": ({"search": {"sed": 2}}, "sed"),
    "task": ({"task": "nothing"}, "task"),
    "mask in words": ({"mask": "http://127.0.0.1/mask.png"}, "nothing is fetched"),
    "reference in words": ({"references": ["/etc/passwd"]}, "nothing is fetched"),
    "stream": ({"stream": True}, "stream is not offered"),
    "background": ({"background": "transparent"}, "background is not offered"),
    "response format": ({"response_format": "url"}, "b64_json"),
    "output format": ({"output_format": "gif"}, "output_format"),
    "size": ({"size": "large"}, "WIDTHxHEIGHT"),
    "huge size": ({"size": "99999x99999"}, "too large"),
    "no size": ({"size": "0x8"}, "WIDTHxHEIGHT"),
    "n": ({"n": 11}, "1 to 10"),
    "model": ({"model": "flux"}, "no model 'flux'"),
    "model and method": ({"model": "icedit", "method": "kontext"}, "differ"),
}


@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED.keys())
def test_refusals_are_sentences(server: Served, asked: tuple[dict[str, Any], str]) -> None:
    fields, words = asked
    with pytest.raises(openai.APIStatusError, match=words) as refused:
        server.client().images.edit(image=file(image(24, 24)), prompt=WORDS, extra_body=fields)
    assert 400 <= refused.value.status_code < 500
    assert isinstance(refused.value.body, dict)
    one_sentence(refused.value.body["message"])
    assert refused.value.body["type"] == "invalid_request_error"


def test_models_health_and_metrics(server: Served) -> None:
    client = server.client()
    assert {model.id for model in client.models.list()} == {"kontext", "icedit", "aceplus"}
    assert client.models.retrieve("icedit").id == "icedit"
    with pytest.raises(openai.NotFoundError, match="There is no model 'none'"):
        client.models.retrieve("none")
    health = httpx.get(f"{server.url}/healthz").json()
    assert health["status"] == "ok"
    client.images.generate(prompt="a red circle", size="32x32", extra_body={"steps": 1})
    told = httpx.get(f"{server.url}/metrics").text
    assert 'editkit_requests_total{path="/v1/images/generations",status="200"}' in told
    assert "editkit_batch_edits_bucket" in told
    assert "editkit_edits_held 0.0" in told


def test_request_ids_are_in_answers_and_logs(server: Served) -> None:
    answer = httpx.get(f"{server.url}/v1/models", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    forged = httpx.get(f"{server.url}/v1/models", headers={"X-Request-ID": 'a"b c'})
    assert forged.headers["x-request-id"] != 'a"b c'
    told = [line for line in server.lines() if line.get("request_id") == "mine-1"]
    assert [(line["path"], line["status"]) for line in told] == [("/v1/models", 200)]
