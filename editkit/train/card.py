"""What lies beside trained weights: a model card, the whole config, the versions it ran with."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from editkit import recipe, writing


def write(
    folder: Path,
    settings: Any,
    *,
    base: str,
    licence: str,
    role: str,
    figures: Mapping[str, float],
    samples: Path | None,
) -> None:
    """Write README.md, config.yaml and environment.json into an export.

    Args:
        folder: that holds the weights.
        settings: of the run, an `EditTrainConfig`.
        base: where the weights that it started from come from.
        licence: of those, which the new ones inherit.
        role: of the transformer.
        figures: of the last validation and the last logged loss.
        samples: a sheet of edits, which is copied; None where there is none.
    """
    picture = ""
    if samples is not None and samples.is_file():
        _replace(folder / "samples.png", samples.read_bytes())
        picture = "\n![Source, edit and answer of held-out records](samples.png)\n"
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    front = {
        "base_model": base,
        "library_name": "diffusers",
        "license": "other" if "apache" not in licence.lower() else "apache-2.0",
        "tags": ["editkit", settings.method, "image-editing", settings.trainable],
    }
    what = "A LoRA" if settings.trainable == "lora" else "A transformer"
    path = f" at {settings.data.path}" if settings.data.path else ""
    kinds = ", ".join(settings.data.kinds) or "all"
    use = (
        f'name = editor.load_adapter("{folder.name}", method="{settings.method}")'
        if settings.trainable == "lora"
        else f'editor = editkit.load("{folder.name}/{role}")'
    )
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {settings.method} on {settings.backbone}

{what} for the role `{role}`, trained by editkit: {settings.fit.steps} steps, each of {settings.fit.samples}
samples.

Base: {base}. Its licence holds for these weights too: {licence}.

```python
{use}
```

| | |
| --- | --- |
{rows}
{picture}
Data: {settings.data.name}{path}; kinds: {kinds}. `editkit train config.yaml` repeats the run;
`environment.json` holds the versions that it ran with.
"""
    _replace(folder / "README.md", text.encode())
    _replace(folder / "config.yaml", yaml.safe_dump(_plain(asdict(settings)), sort_keys=False).encode())
    _replace(folder / "environment.json", (json.dumps(recipe.versions(), indent=2) + "\n").encode())


def _plain(value: Any) -> Any:
    """Tuples as lists, as YAML has them."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _replace(path: Path, data: bytes) -> None:
    with writing.beside(path) as partial:
        partial.write_bytes(data)
