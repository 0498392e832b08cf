"""Behaviour: what an edit is estimated to take follows from its canvas, its steps and the device."""

from __future__ import annotations

import re
from typing import Any

import pytest

from editkit import gpus
from editkit.errors import EditkitError
from editkit.train.estimate import edits
from editkit.train.estimate.plan import UTILIZATION
from tests import ROOT
from tests.command_line import Cli, in_process

FOUR = {"type": "BitsAndBytesConfig", "load_in_4bit": True}
WANTED = {
    "kontext": ((1024, 1024), 512 + 2 * 4096),
    "icedit": ((1024, 512), 512 + 2048),
    "aceplus": ((1024, 1024), 512 + 4096),
}


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return in_process(capfd, monkeypatch)


def found(device: str, *methods: str, **quantization: Any) -> dict[str, edits.EditEstimate]:
    estimates = edits.estimate(gpus.by_name(device), methods, {"quantization": quantization})
    return {each.method: each for each in estimates}


@pytest.mark.slow
def test_each_method_at_its_own_canvas() -> None:
    told = found("h100-80g", *WANTED)
    for name, (canvas, tokens) in WANTED.items():
        each = told[name]
        assert ((each.width, each.height), each.tokens, each.steps) == (canvas, tokens, 28)
        # Half of the double blocks' weights see a token, and each single block's once; attention on top.
        weights = 2 * (19 + 38) * 113e6 * tokens
        attention = 57 * 4 * tokens**2 * 3072
        assert each.flops == pytest.approx(weights + attention, rel=0.03)
        assert each.seconds == pytest.approx(28 * each.flops / (989e12 * UTILIZATION))
        assert each.preset == ""


@pytest.mark.slow
def test_weights_that_travel_take_time() -> None:
    travelling, staying = found("rtx4090-24g", "icedit"), found("rtx4090-24g", "icedit", transformer=FOUR)
    assert travelling["icedit"].preset == "24g"
    assert travelling["icedit"].seconds == pytest.approx(28 * 23.8e9 / edits.TRANSFER, rel=0.01)
    assert staying["icedit"].preset == ""
    assert (staying["icedit"].seconds or 0) < (travelling["icedit"].seconds or 0) / 2
    assert staying["icedit"].memory > travelling["icedit"].memory


@pytest.mark.slow
def test_the_command_says_that_it_estimates(cli: Cli) -> None:
    run = cli("methods", "icedit", "--plan-device", "rtx4090-24g")
    assert (run.status, run.err) == (0, "")
    assert "estimates from shapes and the maker's figures, not measurements" in run.out
    (row,) = (line.split() for line in run.out.splitlines() if line.startswith("icedit"))
    assert row[1:4] == ["1024x512", "2560", "28"]


@pytest.mark.slow
def test_the_quickstart_tells_the_same_estimates() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| (\S+) \| (\d+) \| ([\d.]+) GB, (\d+) s \| ([\d.]+) GB, (\d+) s", text, re.M
    )
    assert {name for name, *_ in rows} == set(WANTED)
    plain = found("rtx4090-24g", *WANTED)
    small = found("rtx4090-24g", *WANTED, transformer=FOUR, text_encoder_2=FOUR)
    for name, canvas, steps, *told in rows:
        one, other = plain[name], small[name]
        assert (canvas, int(steps)) == (f"{one.width}x{one.height}", one.steps)
        known = [one.memory / 1e9, one.seconds, other.memory / 1e9, other.seconds]
        assert list(map(float, told)) == pytest.approx(known, abs=0.5)


def test_what_is_not_counted_is_refused(cli: Cli) -> None:
    for words, message in (
        (("--load", "quantization.type=QuantoConfig"), "name a device too"),
        (("--plan-device", "rtx4090-24g", "--load", "offload=block"), "leave offload out"),
        (("--plan-device", "rtx4090"), "no device called 'rtx4090'"),
        (("--plan-device", "cuda:0"), "cuda:0 is a device to run on, not one to plan for; name a GPU"),
    ):
        for command in ("methods", "backbones"):
            run = cli(command, *words)
            assert run.status == 2
            assert message in run.err


def test_what_is_quantized_is_told(cli: Cli) -> None:
    for words, told in (
        (["quantization.load_in_4bit=true"], "transformer quantized, the rest"),
        (["quantization.type=BitsAndBytesConfig", "quantization.load_in_4bit=true"], "transformer quantized"),
        (["quantization.text_encoder_2.load_in_4bit=true"], "text_encoder_2 quantized, the rest"),
    ):
        loading = [part for word in words for part in ("--load", word)]
        assert told in cli("backbones", "--plan-device", "rtx4090-24g", *loading).out


def test_a_method_must_exist() -> None:
    with pytest.raises(EditkitError, match="There is no method 'konetxt'"):
        found("h100-80g", "konetxt")
