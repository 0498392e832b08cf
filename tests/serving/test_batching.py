"""The queue: edits of a kind run as one batch, and nobody's trouble is another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import editkit
from backbones.flux import Flux
from editkit import EditRequest
from editkit.inference import inputs
from editkit.serving.batching import EditQueue
from editkit.serving.lane import Lane
from editkit.serving.metrics import Metrics
from editkit.serving.refusals import ClosedError, RefusedError
from editkit.serving.settings import ServerSettings
from editkit.serving.work import Job
from tests.pictures import difference, image

SETTINGS = ServerSettings(queue=10, batch=4)


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


@pytest.fixture
def queue(editor: editkit.Editor) -> Iterator[EditQueue]:
    """A queue of one device, which is not started."""
    made = EditQueue([Lane(editor)], SETTINGS, Metrics())
    yield made
    made.end()


def request(place: int, size: tuple[int, int] = (40, 30), **more: Any) -> EditRequest:
    asked: dict[str, Any] = {"image": image(*size, place), "instruction": f"words {place}", "seed": place}
    return EditRequest(**asked | {"steps": 2} | more)


def job(place: int, size: tuple[int, int] = (40, 30), **more: Any) -> Job:
    return Job(prepared=inputs.prepare(request(place, size, **more)))


def metric(queue: EditQueue, name: str) -> float:
    value = queue.metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def test_edits_of_a_kind_run_as_one_batch(queue: EditQueue, editor: editkit.Editor) -> None:
    sizes = [(40, 30), (24, 24)]
    jobs = [job(place, sizes[place % 2]) for place in range(7)]
    queue.add(jobs)
    queue.start()
    for place, each in enumerate(jobs):
        alone = editor.run(request(place, sizes[place % 2]))
        assert difference(each.done.result(60).image, alone.image) <= 1
        assert each.done.result().recipe == alone.recipe
    assert metric(queue, "editkit_batch_edits_count") == 2
    assert metric(queue, "editkit_batch_edits_sum") == 7


def test_batches_have_a_largest_size_and_searches_run_alone(queue: EditQueue) -> None:
    jobs = [*(job(place) for place in range(5)), *(job(place, search={"seeds": 2}) for place in range(2))]
    queue.add(jobs)
    queue.start()
    for each in jobs:
        assert each.done.result(60).image is not None
    assert metric(queue, "editkit_batch_edits_count") == 2 + 2


def test_an_edit_that_fails_fails_alone(queue: EditQueue) -> None:
    jobs = [job(0), job(1, guidance=3e38), job(2)]  # infinite inside the network
    queue.add(jobs)
    queue.start()
    results = [each.done.result(60) for each in jobs]
    assert [result.error is None for result in results] == [True, False, True]


def test_a_full_queue_says_when_to_come_back(queue: EditQueue) -> None:
    with queue.held(8, 100):
        with pytest.raises(RefusedError, match="busy with 8 edits") as refused:  # noqa: SIM117
            with queue.held(3, 100):
                pass
        assert refused.value.http_status == 429
        assert (refused.value.retry_after or 0) >= 1
        with queue.held(2, 100):
            assert queue.size == 10
    with queue.held(1, SETTINGS.held_pixels), pytest.raises(RefusedError), queue.held(1, 1):
        pass
    assert queue.size == 0


@pytest.mark.parametrize("long", [{"steps": 1000}, {"speed": "draft=10000,full_steps=1"}], ids=str)
def test_what_nobody_waits_for_is_not_made(queue: EditQueue, long: dict[str, Any]) -> None:
    running, waiting = job(0, **long), job(1, (24, 24))
    queue.start()
    queue.add([running])
    while not queue._running:
        time.sleep(0.01)
    queue.add([waiting])
    queue.cancel([waiting])
    start = time.monotonic()
    queue.cancel([running])
    with pytest.raises(ClosedError):
        running.done.result(60)
    assert time.monotonic() - start < 30
    assert metric(queue, "editkit_batch_edits_count") == 1


def test_futures_that_are_cancelled_harm_no_worker(queue: EditQueue) -> None:
    """As asyncio does to the future of a client that went away."""
    jobs = [job(0, steps=20), job(1, (24, 24)), job(2, (33, 50))]
    queue.add(jobs)
    jobs[1].done.cancel()
    queue.start()
    while not queue._running:
        time.sleep(0.01)
    assert not jobs[0].done.cancel()
    assert jobs[0].done.result(60).image is not None
    assert jobs[2].done.result(60).image is not None
    assert queue.working


def test_a_wanted_edit_goes_on_beside_one_that_is_not(queue: EditQueue) -> None:
    jobs = [job(0, steps=20), job(1, steps=20)]
    queue.add(jobs)
    queue.start()
    while not queue._running:
        time.sleep(0.01)
    queue.cancel(jobs[:1])
    assert jobs[1].done.result(60).image is not None


def test_other_work_takes_its_turn_on_the_device(queue: EditQueue) -> None:
    queue.start()
    executor = queue.executor(0)
    names = {executor.submit(lambda: threading.current_thread().name).result(60) for _ in range(3)}
    assert names == {"device-0"}
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 / 0).result(60)
    each = job(0)
    queue.add([each])
    assert each.done.result(60).image is not None


def test_closing_returns_what_waits(queue: EditQueue) -> None:
    each = job(0)
    queue.add([each])
    queue.close()
    with pytest.raises(ClosedError):
        queue.add([job(1)])
    with pytest.raises(ClosedError), queue.held(1, 1):
        pass
    queue.end()
    with pytest.raises(ClosedError):
        each.done.result(1)
