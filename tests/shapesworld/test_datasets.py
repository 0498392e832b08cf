"""ShapesWorld as training data."""

from __future__ import annotations

import pytest

from editkit import EditkitError, config
from editkit.data.records import DataConfig
from editkit.shapesworld.datasets import ShapesWorld


@pytest.mark.parametrize("name", ["start=0", "start=9999", "kinds={nothing: 1.0}"])
def test_data_that_must_not_be_trained_on(name: str) -> None:
    chosen = config.build(DataConfig, {}, [name])
    with pytest.raises(EditkitError, match=r"give 10000 or more|it has recolour, remove"):
        ShapesWorld(chosen)
