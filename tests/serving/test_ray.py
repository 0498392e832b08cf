"""A local Ray cluster: the same app behind Ray Serve, and manifests whose batches survive a lost node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import editkit
from editkit import EditkitError
from editkit.serving import ray_jobs
from editkit.serving.jobs import job, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Store
from tests import ROOT
from tests.command_line import one_sentence
from tests.pictures import image
from tests.serving.manifests import content, items, logged, rows

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed; it is the extra ray.")


def script(text: str, *arguments: object, seconds: float = 3600) -> str:
    """What a script in a process of its own printed; Ray's own processes end with it."""
    run = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        | {"RAY_DEDUP_LOGS": "0", "RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "200"},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


LOST = """
import sys, threading, time
from functools import partial
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
import editkit
from editkit.serving import ray_jobs
from editkit.serving.jobs import job, manifest, plan
from editkit.serving.jobs.store import Store

source, folder, backbone = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
items = manifest.read_manifest(source, {}, {}, None)
batches = plan.batches(items, 3)
store = Store(folder, {"batch_size": 3})
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
second = cluster.add_node(num_cpus=2)
cluster.wait_for_nodes()
ray.init(address=cluster.address, logging_level="error", log_to_driver=False)

def lose():
    while len(list(folder.glob("*.png"))) < len(items) // 3:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    print("lost", flush=True)

watcher = threading.Thread(target=lose)
watcher.start()
ray_jobs.run(partial(editkit.load, backbone, "cpu"), batches, store, address="auto", workers=3)
watcher.join()
assert job.finish(items, store) is not None
print("finished")
ray.shutdown()
cluster.shutdown()
"""


@needs_ray
@pytest.mark.slow
def test_a_manifest_survives_a_lost_node(random_pipeline: Path, tmp_path: Path) -> None:
    """With three workers on two nodes, the lost one has at least one."""
    source = rows(tmp_path, 90)
    told = script(LOST, source, tmp_path / "ray", random_pipeline)
    assert [line for line in told.splitlines() if line in ("lost", "finished")] == ["lost", "finished"]
    found = items(source)
    store = Store(tmp_path / "one", {"batch_size": 3})
    editor = editkit.load(str(random_pipeline), "cpu")
    job.run(lambda: editor, plan.batches(found, 3), store, Share())
    job.finish(found, store)
    assert content(tmp_path / "ray") == content(tmp_path / "one")
    assert set(logged(tmp_path / "ray")) == {item.name for item in found}


SERVED = """
import json, sys, time
import openai
from ray import serve
import ray
import editkit
from editkit.serving.ray_serve import application

ray.init("local", num_cpus=3, include_dashboard=False, logging_level="error", log_to_driver=False)
port = int(sys.argv[1])
serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "ERROR"})
serve.run(application({"replicas": 2, "device": "cpu", "methods": ["kontext"]}), name="editkit")
client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0, timeout=1800)
picture = ("a.png", open(sys.argv[2], "rb").read(), "image/png")
made = []
for seed in range(4):
    answer = client.images.edit(image=picture, prompt="make it blue", extra_body={"seed": seed, "steps": 2})
    made.append(answer.data[0].b64_json)
try:
    client.images.edit(image=picture, prompt="make it blue", extra_body={"stepz": 2})
except openai.BadRequestError as error:
    refusal = error.body["message"]
print("told", json.dumps([refusal, made]), flush=True)
serve.shutdown()
ray.shutdown()
"""


@needs_ray
@pytest.mark.slow
def test_the_app_behind_ray_serve(tmp_path: Path, editor: editkit.Editor) -> None:
    from tests.demos.page_server import free_port
    from tests.pictures import difference
    from tests.serving.uploads import opened

    source = image(40, 30)
    source.save(tmp_path / "source.png")
    lines = script(SERVED, free_port(), tmp_path / "source.png").splitlines()  # Ray prints some, too
    (told,) = (line.removeprefix("told ") for line in lines if line.startswith("told "))
    refusal, made = json.loads(told)
    assert "no field 'stepz'" in refusal
    for seed, picture in enumerate(made):
        found = opened(type("Datum", (), {"b64_json": picture}))
        expected = editor.edit(source, "make it blue", seed=seed, steps=2).image
        assert difference(found, expected) <= 1


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here.")
def test_ray_is_told_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="pip install") as error:
        ray_jobs.run(editkit.load, [], Store(tmp_path / "out", {}), address="local", workers=1)
    one_sentence(str(error.value))
