"""`editkit train`."""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import completion
from editkit.cli.options import DeviceAlias, planned_device, say
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.train.estimate.plan import TrainPlan
    from editkit.train.job import Job, RunConfig
    from editkit.train.settings import EditTrainConfig


def train(
    config: Annotated[
        Path, typer.Argument(help="YAML file with the settings that differ from the defaults.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="More YAML files, each over the one before, and key=value, with dots for nested keys."
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Estimate memory, time and how often each pair is seen. Nothing is trained."
        ),
    ] = False,
    plan_device: Annotated[
        str | None,
        typer.Option(
            "--plan-device",
            autocompletion=completion.planned_devices,
            help="GPU to plan for, such as rtx4090-24g or 8xh100-80g; it does not have to be in "
            "this machine. "
            "Training itself always uses this machine: fit.device=cpu keeps it off the GPU.",
        ),
    ] = None,
    alias: DeviceAlias = None,
) -> None:
    """Train with a config. `fit.resume=latest` continues a run that was stopped; Ctrl-C saves and stops."""
    from editkit import config as configs
    from editkit import registry
    from editkit.cli import train_evaluation
    from editkit.train.preflight import check_settings

    values, changes = configs.layered(config, overrides or [])
    recipe = str(values.get("recipe", "edit"))
    settings: RunConfig = configs.build(registry.recipe_config(recipe), values, changes)
    planned = planned_device(plan_device, alias)
    if plan or planned:
        _plan(settings, planned)
        return
    check_settings(settings)
    evaluation = train_evaluation.wanted(settings)
    if evaluation:
        from editkit.train.distributed import processes

        processes.start(settings.fit)
        evaluation.before()
    loss = _trained(recipe, settings)
    if evaluation:
        evaluation.after()
    print(f"{settings.fit.output}/export (loss {loss:.4f} after {settings.fit.steps} steps)")


def _trained(recipe: str, settings: "RunConfig") -> float:
    """Carry out a run and return its last loss; its folder says what it does, and so does the terminal."""
    from editkit.cli import terminal
    from editkit.train import status, stopping

    main = os.environ.get("RANK", "0") == "0"
    about: dict[str, Any] = {"steps": settings.fit.steps} | {
        name: getattr(settings, name) for name in ("method", "backbone") if hasattr(settings, name)
    }
    try:
        with (
            stopping.at_once(),
            terminal.progress(status.STARTING) as bar,
            status.reporting(Path(settings.fit.output), about, bar.phase if main else None, main=main),
        ):
            from editkit import registry
            from editkit.train import precision
            from editkit.train.distributed import failure, processes
            from editkit.train.loop import fit, own_device
            from editkit.train.preflight import check_run

            job_of = registry.recipe(recipe).JOB
            own_device()
            found = check_run(settings.fit, settings)  # before the job, whose making can take long
            processes.start(settings.fit)
            with failure.shared(partial(_ended, main)):
                settings, said = precision.resolve(settings, found)
                job: Job = job_of(settings)
                if said and main:
                    say([said])
                return fit(job, settings.fit)
    except stopping.StopRequest as request:
        raise stopping.RunStoppedError(str(request), request.number) from None
    except KeyboardInterrupt as interrupt:
        raise stopping.RunStoppedError(str(interrupt) or stopping.KILLED, signal.SIGINT) from None


def _ended(main: bool, sentence: str) -> None:
    """Say why another process's failure ends this one."""
    from editkit.train import status

    status.fail(sentence)
    if main:
        print(f"editkit: {sentence}", file=sys.stderr)


def _plan(settings: "RunConfig", device: str | None) -> None:
    from editkit.train.estimate import plan as plans
    from editkit.train.settings import EditTrainConfig

    if not isinstance(settings, EditTrainConfig) or settings.recipe != "edit":
        raise EditkitError("--plan is for runs that edit (recipe: edit).")
    if settings.fresh or settings.text_encoders:
        raise EditkitError("--plan works for published backbones only; leave fresh and text_encoders out.")
    found = plans.plan(settings, device)
    print(table(found, settings))
    if found.seen and found.seen > plans.MANY:
        say([f"each pair is seen {found.seen:.0f} times; over {plans.MANY} a run learns its pairs by heart."])
    if not found.fits:
        raise EditkitError(f"The run needs {found.peak / 1e9:.0f} GB; see above what would fit.")


def _seen(found: "TrainPlan", steps: int) -> str:
    """Say how often each pair is seen."""
    if found.pairs is None or found.seen is None:
        return "not here, so it cannot be said how often each pair is seen"
    return f"{found.pairs:,} pairs, each seen {found.seen:.3g} times in {steps:,} steps"


def table(found: "TrainPlan", settings: "EditTrainConfig") -> str:
    """Format a plan as text."""
    from editkit import gpus
    from editkit.cli.tables import columns, text
    from editkit.train.estimate.plan import UTILIZATION

    share = found.trainable / found.total
    each = " on each device" if found.samples > settings.fit.batch * settings.fit.accumulate else ""
    sizes = [*found.memory.items(), ("peak", found.peak)]
    rows: list[tuple[str, object]] = [
        ("trains", f"{found.trainable:,} of {found.total:,} parameters ({share:.2%})"),
        (
            "a step",
            f"{found.samples} samples of {found.tokens} tokens, {found.flops / 1e12:.3g} TFLOP{each}",
        ),
        ("data", _seen(found, settings.fit.steps)),
        ("memory", columns("<>", ((part, f"{size / 1e9:.2f} GB") for part, size in sizes))),
    ]
    if found.device is None:
        rows.append(("device", f"none found; name one of {', '.join(gpus.KNOWN)} with --plan-device"))
        return text(columns("<<", rows))
    verdict = "fits" if found.fits else "does not fit"
    rows.append(("device", f"{found.device}: {verdict} into {found.capacity / 1e9:.0f} GB"))
    if found.seconds is not None:
        hours, reached = found.seconds / 3600, f"if {UTILIZATION:.0%} of its peak is reached"
        rows.append(("time", f"{hours:.1f} h for {settings.fit.steps} steps, {reached}"))
    if found.advice:
        rows.append(("would fit", found.advice))
    return text(columns("<<", rows))
