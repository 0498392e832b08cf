"""`editkit train`."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="YAML with what differs from the defaults.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dots for nested keys.")] = None,
) -> None:
    """Train from a config; `fit.resume=latest` goes on where the last run stopped."""
    from editkit import config as configs
    from editkit import registry
    from editkit.train.fit import check, fit

    values = configs.read(config)
    module = registry.recipe(str(values.get("recipe", "edit")))
    settings = configs.build(module.CONFIG, values, overrides or [])
    check(settings.fit)  # before the job, whose making can take long
    loss = fit(module.JOB(settings), settings.fit)
    print(f"{settings.fit.output}/export (loss {loss:.4f} after {settings.fit.steps} steps)")
