"""Manifests that cannot be read, and rows whose pictures cannot."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from editkit import EditkitError
from editkit.serving.jobs import manifest, plan
from tests.command_line import one_sentence
from tests.pictures import image


def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"manifest .*xxx cannot be read"):
        manifest.read_manifest(tmp_path / ("x" * 300), {}, {}, None)


def test_a_huge_picture_in_a_dataset_fails_alone(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    image(24, 24).save(buffer, "PNG")
    pictures = [{"bytes": each, "path": None} for each in (b"P6 60000 60000 255\n", buffer.getvalue())]
    parquet.write_table(pyarrow.table({"image": pictures, "instruction": ["a", "b"]}), tmp_path / "m.parquet")
    bad, good = manifest.read_manifest(tmp_path / "m.parquet", {}, {}, None)
    assert [len(batch) for batch in plan.batches([bad, good], 8)] == [1, 1]
    with pytest.raises(EditkitError, match="Its picture has over 100,000,000 pixels; scale it") as refusal:
        bad.request()
    one_sentence(str(refusal.value))
    assert good.request().image.size == (24, 24)  # type: ignore[union-attr]
