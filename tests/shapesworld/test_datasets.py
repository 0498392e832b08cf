"""ShapesWorld as training data."""

from __future__ import annotations

from collections import Counter

import pytest

from editkit import EditkitError, config
from editkit.data.records import DataConfig
from editkit.shapesworld.datasets import ShapesWorld, ShapesWorldHoles
from editkit.shapesworld.masked import IN_CONTEXT


def test_holes() -> None:
    pictures = [ShapesWorldHoles(DataConfig(name="shapesworld holes", count=300))[n] for n in range(300)]
    widths = Counter(record.answer.shape[1] for record in pictures)
    assert widths.keys() == {128, 256}
    assert 45 < widths[128] < widths[256]
    for record in pictures:
        assert record.mask is not None
        assert record.mask.shape == record.answer.shape[:2]
        assert set(record.mask.flat) <= {0, 255}
        assert record.mask.any()
        assert record.source is record.answer
    pairs = [record for record in pictures if record.answer.shape[1] == 256]
    assert not any(record.mask[:, :128].any() for record in pairs)
    repeated = [record for record in pairs if record.instruction == ShapesWorldHoles.REPEATED]
    changed = [
        record for record in pairs if record.instruction.startswith((ShapesWorldHoles.VARIED, IN_CONTEXT))
    ]
    assert 0 < len(repeated) < len(changed) < len(pairs) - len(repeated)
    assert all((record.answer[:, :128] == record.answer[:, 128:]).all() for record in repeated)
    assert not any((record.answer[:, :128] == record.answer[:, 128:]).all() for record in changed)


@pytest.mark.parametrize("name", ["start=0", "start=9999", "kinds={nothing: 1.0}"])
def test_data_that_must_not_be_trained_on(name: str) -> None:
    chosen = config.build(DataConfig, {}, [name])
    with pytest.raises(EditkitError, match=r"give 10000 or more|it has recolour, remove"):
        ShapesWorld(chosen)
