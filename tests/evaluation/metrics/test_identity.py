"""Faces are compared by insightface; small networks of AuraFace's shapes stand for its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from editkit.evaluation.metrics import AbsentMetricError, AskingMetric, Metric, load_metric
from tests.evaluation.metrics.cases import case

SIDE = 160


Stage = tuple[np.ndarray, np.ndarray]
"""Weight (O, 3, K, K) and bias of a convolution whose stride is its kernel."""


def saved(path: Path, stages: list[Stage], rows: int, side: int | str) -> None:
    """A network of one output a stage: its values at each place, as so many rows."""
    onnx = pytest.importorskip("onnx", reason="the extra identity is not installed")
    make, value_of, kind = onnx.helper.make_node, onnx.numpy_helper.from_array, onnx.TensorProto.FLOAT
    nodes, tensors, outputs = [], [], []
    for n, (weight, bias) in enumerate(stages):
        width, stride = len(bias) // rows, weight.shape[-1]
        tensors += [value_of(weight.astype(np.float32), f"w{n}"), value_of(bias.astype(np.float32), f"b{n}")]
        tensors.append(value_of(np.array([-1, width]), f"s{n}"))
        nodes += [
            make("Conv", ["x", f"w{n}", f"b{n}"], [f"c{n}"], strides=[stride, stride]),
            make("Transpose", [f"c{n}"], [f"t{n}"], perm=[0, 2, 3, 1]),
            make("Reshape", [f"t{n}", f"s{n}"], [f"o{n}"]),
        ]
        outputs.append(onnx.helper.make_tensor_value_info(f"o{n}", kind, [None, width]))
    given = onnx.helper.make_tensor_value_info("x", kind, [1, 3, side, side])
    graph = onnx.helper.make_graph(nodes, "g", [given], outputs, tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.fixture(scope="module")
def auraface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that takes what is red for a face, and a recognizer of random weights."""
    folder = tmp_path_factory.mktemp("auraface")
    scores = [(np.zeros((2, 3, stride, stride)), np.full(2, -1.5)) for stride in (8, 16, 32)]
    scores[0][0][:, 0], scores[0][0][:, 1:] = 1 / 64, -1 / 64  # at the finest stride
    box, points = [40.0] * 4, [-4, -4, 4, -4, 0, 0, -3, 4, 3, 4]  # around a place, in strides
    places = [
        (np.zeros((2 * len(each), 3, stride, stride)), np.array(2 * each))
        for each in (box, points)
        for stride in (8, 16, 32)
    ]
    saved(folder / "scrfd_10g_bnkps.onnx", scores + places, rows=2, side="side")
    weight = np.random.default_rng(0).normal(size=(512, 3, 112, 112)) / 112
    saved(folder / "glintr100.onnx", [(weight, np.zeros(512))], rows=1, side=112)
    return folder


@pytest.fixture(scope="module")
def identity(auraface: Path) -> Metric:
    pytest.importorskip("insightface", reason="the extra identity is not installed")
    return load_metric("identity", {"model": str(auraface)})


def face(seed: int | None, at: tuple[int, int] = (64, 64)) -> np.ndarray:
    """A gray picture with a red square, and in it a pattern that only the recognizer sees."""
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    if seed is not None:
        y, x = at
        picture[y : y + 32, x : x + 32] = (255, 0, 0)
        pattern = np.random.default_rng(seed).integers(0, 40, (32, 32), dtype=np.uint8)
        picture[y : y + 32, x : x + 32, 1] = pattern
    return picture


def test_the_same_face_is_the_same_wherever_it_is(identity: Metric) -> None:
    first = face(0)
    assert identity.score(case(first, first=first)).values["identity"] == pytest.approx(1, abs=1e-5)
    moved = identity.score(case(face(0, (96, 32)), first=first)).values["identity"]
    other = identity.score(case(face(1), first=first)).values["identity"]
    assert moved > 0.99
    assert other < moved


def test_a_face_that_is_gone_counts_0(identity: Metric) -> None:
    found = identity.score(case(face(None), first=face(0)))
    assert found.values == {"identity": 0}
    assert found.notes["faces"] == [1, 0]


def test_pictures_without_a_face_have_no_figure(identity: Metric) -> None:
    assert not identity.score(case(face(0), first=face(None))).values
    assert not identity.score(case(face(0))).values


def test_a_failed_item_is_asked_where_its_source_has_a_face(identity: Metric) -> None:
    assert isinstance(identity, AskingMetric)
    item = case(face(None)).item
    assert identity.asks(item, face(0))
    assert not identity.asks(item, face(None))
    assert not identity.asks(item, None)


def test_the_weights_are_named(identity: Metric, auraface: Path) -> None:
    told = identity.describe()
    assert told["model"] == str(auraface)
    assert told["revision"].startswith("sha256 ")


def test_absent_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AbsentMetricError, match="fal/AuraFace-v1 is not on this machine; get it with"):
        load_metric("identity")
    with pytest.raises(AbsentMetricError, match=r"has no scrfd_10g_bnkps.onnx; give one of AuraFace's"):
        load_metric("identity", {"model": str(tmp_path)})


def test_damaged_weights_are_said(tmp_path: Path) -> None:
    pytest.importorskip("insightface", reason="the extra identity is not installed")
    for name in ("scrfd_10g_bnkps.onnx", "glintr100.onnx"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(AbsentMetricError, match="cannot be loaded"):
        load_metric("identity", {"model": str(tmp_path)})
