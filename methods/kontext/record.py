"""The record of FLUX.1 Kontext."""

from editkit.backbone import AdapterSignature
from editkit.method import Method
from methods.kontext.conditioner import KontextConditioner
from methods.kontext.config import KontextConfig
from methods.kontext.sampler import KontextSampler
from methods.kontext.trainer import KontextTrainer

METHOD = Method(
    name="kontext",
    summary="source and references join the sequence at a RoPE offset",
    purpose="Looks at the picture, and at references, while it draws. Good for edits in a row.",
    main_options={
        "guidance": "How closely to follow the words",
        "sizes": "Size to work at",
        "layout": "Where references stand",
    },
    paper="FLUX.1 Kontext: Flow Matching for In-Context Image Generation and Editing in Latent Space (2025)",
    role="kontext",
    config=KontextConfig,
    conditioner=KontextConditioner,
    sampler=KontextSampler,
    trainer=KontextTrainer,
    # FLUX.1 [dev] has the same channels.
    signature=AdapterSignature(channels=(64,), architecture="kontext"),
)
