"""Describe this machine: devices and their memory, packages and their versions."""

import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

REQUIRED = (
    "editkit",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "huggingface-hub",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundDevice:
    """A device that edits can run on.

    Attributes:
        name: value for `--device`.
        model: the maker's name of it.
        memory: bytes of its memory; of main memory for a CPU.
        free: bytes that nothing uses now.
    """

    name: str
    model: str
    memory: int
    free: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionalPackage:
    """A package that only some functions need.

    Attributes:
        package: name in the package index.
        extra: editkit's extra that includes it; None where it is installed by its own name.
        purpose: what it is needed for.
    """

    package: str
    extra: str | None
    purpose: str

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        return version(self.package)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'editkit[{self.extra}]'" if self.extra else f"pip install {self.package}"


OPTIONAL = (
    OptionalPackage(package="bitsandbytes", extra="train", purpose="weights in 4 and 8 bits, 8-bit AdamW"),
    OptionalPackage(package="gguf", extra="gguf", purpose="weight files in GGUF"),
    OptionalPackage(package="torchao", extra=None, purpose="TorchAoConfig: weights in int8 and fp8"),
    OptionalPackage(package="optimum-quanto", extra=None, purpose="QuantoConfig: weights in int8 and fp8"),
    OptionalPackage(package="openai", extra="judges", purpose="judges behind an endpoint"),
    OptionalPackage(package="gradio", extra="demo", purpose="the page: editkit demo"),
    OptionalPackage(package="kornia", extra="control", purpose="ACE++'s tasks from edges and lines"),
    OptionalPackage(package="datasets", extra="train", purpose="training pairs from Hugging Face datasets"),
    OptionalPackage(package="tensorboard", extra="train", purpose="curves of a training run"),
    OptionalPackage(package="prodigyopt", extra="train", purpose="the optimizer Prodigy"),
    OptionalPackage(package="schedulefree", extra="train", purpose="optimizers without a schedule"),
    OptionalPackage(package="deepspeed", extra="deepspeed", purpose="training in DeepSpeed's shards"),
    OptionalPackage(package="torchmetrics", extra="eval", purpose="measures of pictures"),
    OptionalPackage(package="matplotlib", extra="eval", purpose="figures of measurements"),
    OptionalPackage(package="scikit-image", extra="eval", purpose="the measure SSIM"),
    OptionalPackage(package="stlpips-pytorch", extra="eval", purpose="weights of a measure, ST-LPIPS"),
    OptionalPackage(package="rapidocr", extra="eval", purpose="the measure of readable text"),
    OptionalPackage(package="onnxruntime", extra="eval", purpose="rapidocr's networks"),
    OptionalPackage(package="insightface", extra="identity", purpose="the measure of a face's identity"),
    OptionalPackage(package="jinja2", extra="eval", purpose="pages of reports"),
    OptionalPackage(package="pyarrow", extra="eval", purpose="tables of results in Parquet"),
    OptionalPackage(package="datasets", extra="eval", purpose="benchmarks from Hugging Face datasets"),
    OptionalPackage(package="starlette", extra="serve", purpose="the server: editkit serve"),
    OptionalPackage(package="uvicorn", extra="serve", purpose="the server's connections"),
    OptionalPackage(package="python-multipart", extra="serve", purpose="uploads to the server"),
    OptionalPackage(package="anyio", extra="serve", purpose="the server's threads"),
    OptionalPackage(package="prometheus_client", extra="serve", purpose="the server's metrics"),
    OptionalPackage(package="pyarrow", extra="serve", purpose="the recipes of batch edits in Parquet"),
    OptionalPackage(package="ray", extra="ray", purpose="edits on several machines"),
)


def version(package: str) -> str | None:
    """Return an installed package's version, or None."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the required packages; None for a bare checkout of editkit."""
    return {"python": platform.python_version()} | {package: version(package) for package in REQUIRED}


def devices() -> list[FoundDevice]:
    """List all devices of this machine, the default one first."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = "cuda" if index == 0 else f"cuda:{index}"
        found.append(FoundDevice(name=name, model=torch.cuda.get_device_name(index), memory=total, free=free))
    if torch.backends.mps.is_available():
        total = torch.mps.recommended_max_memory()
        free = total - torch.mps.driver_allocated_memory()
        found.append(FoundDevice(name="mps", model=platform.processor() or "Apple", memory=total, free=free))
    model = platform.processor() or platform.machine()
    return [*found, FoundDevice(name="cpu", model=model, memory=memory.total, free=memory.available)]
