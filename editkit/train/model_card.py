"""Write what goes with trained weights: a model card, the whole config, the versions of packages."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from editkit import atomic_files, registry
from editkit.data.records import MixedConfig
from editkit.inference import provenance
from editkit.train.settings import EditTrainConfig


def write(
    folder: Path,
    settings: EditTrainConfig,
    *,
    base: str,
    licence: str,
    role: str,
    figures: Mapping[str, float],
    samples: Path | None,
) -> None:
    """Write README.md, config.yaml and environment.json into an export.

    Args:
        folder: folder of the weights.
        settings: config of the run.
        base: origin of the weights that the run started from.
        licence: their licence, which the new weights inherit.
        role: role of the transformer.
        figures: figures of the last validation, and the last logged loss.
        samples: a sheet of edits, which is copied into the folder; None for no sheet.
    """
    picture = ""
    if samples is not None and samples.is_file():
        _replace(folder / "samples.png", samples.read_bytes())
        picture = "\n![Source, edit and answer of held-out records](samples.png)\n"
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    what = "A LoRA" if settings.trainable == "lora" else "A transformer"
    card = ModelCard(f"""---
{_hub_metadata(settings, base, licence)}
---

# {settings.method} on {settings.backbone}

{what} for the role `{role}`, trained by editkit: {settings.fit.steps} steps, each of {settings.fit.samples}
samples.{_distilled(settings)}

Base: {base}. Its licence holds for these weights too: {licence}.

```python
{_usage(settings, folder.name, role)}
```

| | |
| --- | --- |
{rows}
{picture}
{_data(settings)} `editkit train config.yaml` repeats the run;
`environment.json` holds the versions that it ran with.
""")
    _replace(folder / "README.md", str(card).encode())
    _replace(folder / "config.yaml", yaml.safe_dump(_plain(asdict(settings)), sort_keys=False).encode())
    _replace(folder / "environment.json", (json.dumps(provenance.versions(), indent=2) + "\n").encode())


def _hub_metadata(settings: EditTrainConfig, base: str, licence: str) -> ModelCardData:
    """Return the metadata that the Hub reads at the top of a model card."""
    return ModelCardData(
        base_model=base,
        library_name="diffusers",
        license="apache-2.0" if "apache" in licence.lower() else "other",
        tags=["editkit", settings.method, "image-editing", settings.trainable],
    )


def _usage(settings: EditTrainConfig, name: str, role: str) -> str:
    """Return lines of Python that use the weights."""
    usual = registry.method(settings.method).role == role or not settings.options
    options = "" if usual else f", options={ {settings.method: _plain(settings.options)} }"
    if settings.trainable != "lora":
        return f'editor = editkit.load("{name}/{role}"{options})'
    base = "" if usual else f'editor = editkit.load("{settings.backbone}"{options})\n'
    return f'{base}name = editor.load_adapter("{name}", method="{settings.method}")'


def _distilled(settings: EditTrainConfig) -> str:
    """Say what was distilled, and how it is used; empty for the flow objective."""
    if settings.distill is None:
        return ""
    if settings.distill.ladd is not None:
        steps = settings.distill.ladd.steps
        how = f"steps={steps}{' or fewer' if steps > 1 else ''}, guidance={settings.guidance:g}"
        return f" Distilled for few steps (LADD): edit with {how}."
    if settings.distill.progressive is not None:
        how = f"steps={settings.distill.progressive.steps}, guidance={settings.guidance:g}"
        return f" Distilled for few steps (progressive distillation): edit with {how}."
    assert settings.distill.guidance is not None
    least, most = settings.distill.guidance.scales
    return f" Guidance was distilled: guidance from {least:g} to {most:g} has a meaning."


def _data(settings: EditTrainConfig) -> str:
    """Describe the data of the run, one line for each dataset."""
    lines = []
    for name, mixed in ({"Data": MixedConfig(data=settings.data)} | settings.mixture).items():
        path = f" at {mixed.data.path}" if mixed.data.path else ""
        kinds = ", ".join(mixed.data.kinds) or "all"
        prior = ", learnt as the model saw it before training" if mixed.prior else ""
        lines.append(f"{name}: {mixed.data.name}{path}; kinds: {kinds}{prior}.")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """Convert tuples to lists, since YAML has no tuples."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _replace(path: Path, data: bytes) -> None:
    with atomic_files.whole(path) as file:
        file.write(data)
