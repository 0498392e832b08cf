"""The command line in processes that start at once: a server has imported everything, and forks."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess

PRELOADED = [
    "tests.evaluation.cli_process",
    "editkit.cli",
    "editkit.api",
    "editkit.evaluation.edits",
    "editkit.evaluation.runner",
    "editkit.evaluation.metrics.pixels",
    "editkit.evaluation.metrics.preservation",
    "editkit.evaluation.report.files",
    "editkit.inference.batch_runs",
    "editkit.inference.pipeline",
    "backbones.flux",
    "backbones.provider",
    "backbones.text",
    "methods.kontext.conditioner",
    "methods.kontext.sampler",
    "skimage.metrics",
    "torchmetrics",
    "diffusers.models.transformers.transformer_flux",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
    "transformers.models.t5.modeling_t5",
]
"""Modules that a run needs, and which take seconds to import."""


def command(arguments: list[str]) -> None:
    """Run the command line in this process, without a word."""
    from editkit.cli import main

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.argv = ["editkit", *arguments]
    main()


def started(arguments: list[str]) -> BaseProcess:
    """Start the command line in a process of its own, which kill -9 reaches."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=command, args=(arguments,), daemon=True)
    process.start()
    return process
