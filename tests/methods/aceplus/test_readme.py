"""x"""

from __future__ import annotations

import dataclasses
import re

from methods.aceplus import METHOD
from tests import ROOT


def test_readme_speaks_of_every_option() -> None:
    text = (ROOT / "methods" / "aceplus" / "README.md").read_text()
    for field in dataclasses.fields(METHOD.config):
        assert re.search(rf"`{field.name}[=`:]|{field.name}=|{field.name}: ", text), field.name
