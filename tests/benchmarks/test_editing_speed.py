"""Behaviour: the choice of measured speeds, and the reading of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import editkit
from benchmarks import mag_ratios, speed_edits, speed_figures, speed_page, speed_plot, speed_table
from benchmarks.peak_memory import resident_peak
from benchmarks.speed_figures import Figures
from benchmarks.speed_operations import Operations
from editkit import config
from editkit.backbone import Backbone
from editkit.inference import mag_cache, speed


def measured(speed: str, saves: float, successes: int) -> tuple[str, Figures]:
    """A technique with the number of 200 edits that succeeded."""
    found = tuple(float(place < successes) for place in range(200))
    return speed, Figures(gflops=1 / saves, saves=saves, successes=found, psnr=30, seconds=0)


@pytest.fixture
def export(tiny: Backbone, tmp_path: Path) -> Path:
    """A LoRA with random weights."""
    last: Any = tiny.transformer("kontext").proj_out
    generator = torch.Generator().manual_seed(1)
    save_file(
        {
            "lora_unet_final_layer_linear.lora_down.weight": torch.randn(
                2, last.in_features, generator=generator
            ),
            "lora_unet_final_layer_linear.lora_up.weight": torch.randn(
                last.out_features, 2, generator=generator
            ),
        },
        tmp_path / "pytorch_lora_weights.safetensors",
    )
    return tmp_path


MEASURED = {
    "exact": measured("exact", 1.0, 180),
    "safe": measured("full_steps=5", 2.0, 179),
    "quick": measured("full_steps=2", 4.0, 176),
    "hasty": measured("full_steps=1", 6.0, 100),
}


def test_a_speed_saves_most_of_what_keeps_success() -> None:
    assert speed_table.chosen(MEASURED, 0.01) == "full_steps=5"
    assert speed_table.chosen(MEASURED, 0.03) == "full_steps=2"
    assert speed_table.chosen(MEASURED, 0.0) == "exact"


def test_the_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "speed.yaml"
    monkeypatch.setattr(speed_table, "TABLE", place)
    monkeypatch.setattr(speed, "TABLE", place)
    speed_table.write("some", "kontext", 8, MEASURED)
    assert speed.resolve("fast", "some", "kontext") == speed.StepSaving(full_steps=2)
    assert config.read_yaml(place)["some"]["kontext"]["balanced"]["full_steps"] == 5


def test_operations_are_those_of_matrix_products_by_shape() -> None:
    layer = torch.nn.Linear(16, 4, bias=False)
    operations = Operations(layer)
    with operations.watched():
        for rows in (8, 8, 2):
            assert layer(torch.ones(rows, 16)).shape == (rows, 4)
    assert operations.total == 2 * 16 * 4 * (8 + 8 + 2)
    layer(torch.ones(8, 16))
    assert operations.total == 2 * 16 * 4 * (8 + 8 + 2), "calls outside the block are not counted"


def test_decibels() -> None:
    black = torch.zeros(4, 4, 3).numpy()
    assert speed_figures.decibels(black, black) == 60
    assert speed_figures.decibels(black, black + 0.1) == pytest.approx(20, abs=0.01)


def test_a_page_takes_tables_between_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{speed_page.BEGIN}\nold\n{speed_page.END}\nafter\n")
    monkeypatch.setattr(speed_page, "PAGE", page)
    monkeypatch.setattr(speed_page, "PLOT", tmp_path / "plot.png")
    for text in ("one", r"\1 two"):
        speed_page.write(text, b"png")
        read = page.read_text()
        assert text in read
        assert "old" not in read
        assert read.startswith("before")
        assert read.endswith("after\n")
    assert (tmp_path / "plot.png").read_bytes() == b"png"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has 0 places"):
        speed_page.write("one", b"png")


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("exact", "nothing", 8),
        ("a quarter of the steps", "nothing", 2),
        ("context after 3 steps", "context", 8),
        ("half the steps, region by a draft", "all outside the region", 4),
        ("Taylor cache, every 3rd", "blocks", 8),
        ("cached context, region after 1 step", "cached context", 8),
        ("distilled, 4 steps", "nothing, distilled", 4),
        ("distilled, 4 steps, cached context", "cached context", 4),
        ("distilled, 4 steps, region after 1 step", "all outside the region", 4),
    ],
)
def test_the_plot_shows_what_a_technique_saves(name: str, kind: str, steps: int) -> None:
    found = speed_edits.TECHNIQUES | speed_edits.CACHED | speed_edits.distilled("export")
    assert len(found) == len(speed_edits.TECHNIQUES) + len(speed_edits.CACHED) + 7, "one name, one technique"
    figures = Figures(gflops=1, saves=2, successes=(1, 0), psnr=40, seconds=0)
    point = speed_plot.point(found[name], 8, figures)
    assert (point.kind, point.steps, point.operations) == (kind, steps, 0.5)
    assert speed_plot.plot({"kontext": [point]}).startswith(b"\x89PNG")


def test_a_row_tells_one_ratio_and_the_peak_of_memory() -> None:
    """Of a technique alone and of one that combines two; 200 MB more are seen where they are held."""
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = speed_edits.held_out(1)
    names = ("exact", "region after 1 step", "half the steps, region after 1 step")
    rows = speed_edits.edits(
        editor, "kontext", examples, 4, techniques={name: speed_edits.TECHNIQUES[name] for name in names}
    )
    _, _, *lines = speed_figures.by_technique(examples, rows).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[0] for line in cells] == list(names)
    assert 1 == float(cells[0][2]) < float(cells[1][2]) < float(cells[2][2])
    assert all(float(line[5]) > 100 for line in cells)
    small = resident_peak(lambda: None)
    assert resident_peak(lambda: b"x" * 200_000_000) > small + 150_000_000
    assert resident_peak(lambda: None) < small + 100_000_000


def test_ratios_of_each_step_are_measured() -> None:
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    (found,) = mag_ratios.ratios(editor, "kontext", "kontext", speed_edits.held_out(1))
    assert found == pytest.approx(mag_cache.measured_ratios("tiny", "kontext"), abs=0.1), "of these weights"


@pytest.mark.slow
def test_a_distilled_adapter_is_worn(export: Path) -> None:
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = speed_edits.held_out(1)
    techniques = {"exact": speed_edits.TECHNIQUES["exact"]} | speed_edits.distilled(str(export))
    rows = speed_edits.edits(editor, "kontext", examples, 4, techniques=techniques)
    assert speed_figures.decibels(rows["exact"][0].pixels, rows["distilled, 4 steps"][0].pixels) < 60
    assert rows["distilled, 1 step"][0].flops < rows["exact"][0].flops / 3


@pytest.mark.slow
def test_every_technique_is_measured_and_told() -> None:
    editor = editkit.load("tiny", device="cpu", dtype="float32")
    examples = speed_edits.held_out(2)
    rows = speed_edits.edits(editor, "kontext", examples, 8)
    assert rows.keys() == speed_edits.TECHNIQUES.keys()
    table = speed_figures.by_technique(examples, rows)
    assert all(f"| {name} |" in table for name in rows)
    found = {name: speed_figures.figures(examples, edits, rows["exact"]) for name, edits in rows.items()}
    assert found["exact"].saves == 1
    assert found["exact"].psnr == speed_figures.SAME
    assert found["half the steps"].saves == 2
    assert all(each.saves > 1 for name, each in found.items() if name != "exact")
    assert "to" in speed_figures.by_share(examples, rows)
    peer = speed_edits.diffusers_edits(editor, examples[:1], 2)
    assert peer[0].flops == pytest.approx(rows["a quarter of the steps"][0].flops)
