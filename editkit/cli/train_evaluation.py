"""Run a benchmark before and after a training run, and compare both."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.cli import options
from editkit.cli.evaluate_reports import differences, plain_differences, write_report
from editkit.cli.evaluation_progress import phases
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.evaluation.runner import PreparedRun
    from editkit.evaluation.settings import RunConfig
    from editkit.train.settings import EditTrainConfig

FOLDER, BEFORE, AFTER = "evaluation", "before", "after"
"""Folder of the evaluations in a run's folder, and those of both."""


class TrainEvaluation:
    """The evaluations of a training run. Its processes share the items.

    Args:
        settings: the run's settings, with an `evaluation`.

    Raises:
        EditkitError: where the benchmark, its data or its metrics are missing.
    """

    def __init__(self, settings: EditTrainConfig) -> None:
        from editkit import config, registry

        self.settings, self.folder = settings, Path(settings.fit.output) / FOLDER
        options = config.build(registry.method_config(settings.method), self._options())
        self.role = registry.method(settings.method).role_under(options)
        self._prepared(BEFORE)  # to raise its errors early

    def before(self) -> None:
        """Evaluate the weights that the run starts from; what an earlier start has done is not done again."""
        self._run(self._prepared(BEFORE))

    def after(self) -> None:
        """Evaluate what the run exported, and write and print the comparison."""
        if not self._run(self._prepared(AFTER)):
            return
        from editkit import atomic_files
        from editkit.evaluation.comparison import compare
        from editkit.evaluation.unpaired import unscored

        for when in (BEFORE, AFTER):
            print(f"{when} training:")
            write_report(self.folder / when)
        found = compare(self.folder / BEFORE, self.folder / AFTER)
        with atomic_files.beside(self.folder / "comparison.json") as partial:
            partial.write_text(json.dumps(plain_differences(found), indent=2) + "\n")
        print("before (A) and after (B) training:")
        print(differences(found))
        options.say(unscored(self.folder / BEFORE, self.folder / AFTER))

    def _run(self, prepared: PreparedRun) -> bool:
        """Run this process's share; return whether this process reports."""
        from editkit import api
        from editkit.evaluation import chunks, runner

        config = prepared.config
        share, wait = chunks.from_environment()

        def editor() -> Any:
            return api.load(
                config.backbone,
                config.device,
                config.dtype,
                options=config.options,
                lora=config.lora,
                **config.load,
            )

        if share.rank == 0:
            options.say(f"the metric {name} is left out: {why}" for name, why in prepared.left_out.items())
        with phases() as shown:
            runner.run(prepared, editor, shown.begin, share, wait)
        return share.rank == 0

    def _prepared(self, when: str) -> PreparedRun:
        from editkit.evaluation import runner

        return runner.prepare(self._config(when))

    def _config(self, when: str) -> RunConfig:
        from editkit.evaluation.settings import RunConfig

        settings = self.settings
        assert settings.evaluation is not None
        load, lora = dict(settings.load), dict[str, float]()
        export = Path(settings.fit.output) / "export"
        if settings.trainable != "lora" and when == AFTER:
            load["transformer"] = {self.role: str(export / self.role / "transformer")}
        elif settings.start:
            load["transformer"] = {self.role: settings.start}
        if settings.trainable == "lora" and when == AFTER:
            lora = {str(export): 1.0}
        elif settings.adapter:
            lora = {settings.adapter: 1.0}
        try:
            return RunConfig(
                **(asdict(settings.evaluation) | {"steps": settings.evaluation.steps or settings.few_steps}),
                out=str(self.folder / when),
                methods=[settings.method],
                backbone=settings.backbone,
                device=settings.fit.device,
                dtype=settings.dtype,
                load=load,
                lora=lora,
                options={settings.method: self._options()},
            )
        except ValueError as error:
            raise EditkitError(f"The evaluation does not fit: {error}.") from error

    def _options(self) -> dict[str, Any]:
        """Return the method's options, without its own default adapter, beside which none is trained."""
        from editkit import registry

        known = registry.method_config(self.settings.method).__dataclass_fields__
        return ({"adapter": None} if "adapter" in known else {}) | self.settings.options


def wanted(settings: Any) -> TrainEvaluation | None:
    """Return the evaluations that a run's settings ask for; None where they ask for none.

    Raises:
        EditkitError: where they cannot be run.
    """
    if getattr(settings, "evaluation", None) is None:
        return None
    if getattr(settings, "recipe", "edit") != "edit":
        raise EditkitError("evaluation is for runs that edit (recipe: edit); leave it out here.")
    return TrainEvaluation(settings)
