"""A page that is served to all tests here, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from tests import ROOT
from tests.demos.page_client import PASSWORD, PIXELS
from tests.demos.page_server import Page, served


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    adapters = ROOT / "methods" / "icedit" / "tiny" / "lora"
    with served(folder, "--max-pixels", PIXELS, "--adapter", adapters, EDITKIT_PASSWORD=PASSWORD) as found:
        yield found


@pytest.fixture
def client(page: Page, tmp_path: Path) -> Client:
    return Client(
        page.url,
        auth=("anybody", PASSWORD),
        verbose=False,
        download_files=tmp_path,
        httpx_kwargs={"timeout": 120},
    )
