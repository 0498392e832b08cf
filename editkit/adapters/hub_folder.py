"""Lay out a folder as the Hub and diffusers expect an adapter: its file, and a model card."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from editkit import adapters, atomic_files
from editkit.adapters.files import FILE
from editkit.backbone import LoraSummary, Role, provider
from editkit.errors import EditkitError

CARD = "README.md"
SETTINGS = "config.yaml"
BESIDE = (CARD, SETTINGS, "environment.json", "samples.png")
"""Files that `editkit train` writes beside the weights."""


def write(
    source: Path, folder: Path, backbone: str, method: str, role: Role, summary: LoraSummary
) -> tuple[str, ...]:
    """Write an adapter and a model card into a new folder; return keys of text encoders, which are left out.

    A plain LoRA is written in diffusers' dialect. A LoRA-MoE, which diffusers does not know, is copied. What
    `editkit train` wrote beside the weights is copied, too: its model card instead of a new one, its config
    without the folders of absolute paths.

    Args:
        source: a .safetensors file, or a folder with one.
        folder: which must be empty or missing.
        backbone: name of the backbone that the adapter belongs to.
        method: that edits with it.
        role: of the backbone, that the method edits with.
        summary: of the source.

    Raises:
        EditkitError: where the folder holds something, or the source is neither a plain LoRA nor a LoRA-MoE.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EditkitError(f"{folder} is there already and is not empty; name a new folder.")
    lora, left = provider().lora, tuple[str, ...]()
    with atomic_files.whole_folder(folder) as made:
        if summary.experts is None:
            left, _ = lora.convert(source, made / FILE, "diffusers", None)
        else:
            lora.write_file(*adapters.read_adapter(source), made / FILE)
        for name in BESIDE:
            if source.is_dir() and (source / name).is_file():
                shutil.copyfile(source / name, made / name)
        if (made / SETTINGS).is_file():
            text = (made / SETTINGS).read_text(encoding="utf-8")
            (made / SETTINGS).write_text(_without_folders(text), encoding="utf-8")
        if (made / CARD).is_file():
            # Its lines of Python load the folder of the run, which no reader of the Hub has.
            before, after = (f'load_adapter("{name}"' for name in (source.name, f"OWNER/{folder.name}"))
            text = (made / CARD).read_text(encoding="utf-8")
            (made / CARD).write_text(text.replace(before, after), encoding="utf-8")
        else:
            (made / CARD).write_text(str(_card(folder.name, backbone, method, role, summary)))
    return left


def _without_folders(settings: str) -> str:
    """Reduce absolute paths in a YAML to their last names: the folders tell of a user's machine."""

    def reduced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reduced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [reduced(each) for each in value]
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return str(yaml.safe_dump(reduced(yaml.safe_load(settings)), sort_keys=False))


def _card(name: str, backbone: str, method: str, role: Role, summary: LoraSummary) -> ModelCard:
    """Make a model card; it says nothing about training, of which an adapter's file tells nothing."""
    published = None if Path(role.source).is_absolute() else role.source
    data = ModelCardData(
        base_model=published,
        library_name="diffusers",
        license="apache-2.0" if "apache" in role.licence.lower() else "other",
        pipeline_tag="image-to-image",
        tags=["editkit", method, "image-editing", "lora"],
    )
    kind = "A LoRA-MoE, which editkit reads and diffusers does not," if summary.experts else "A LoRA"
    ranks = ", ".join(map(str, summary.ranks))
    return ModelCard(f"""---
{data}
---

# {name}

{kind} of rank {ranks} for {method} on {published or backbone}.
The licence of the base holds for these weights too: {role.licence}.

```python
import editkit

editor = editkit.load("{backbone}")
name = editor.load_adapter("OWNER/{name}", method="{method}")
result = editor.edit("photo.jpg", "what to change", method="{method}")
```
""")
