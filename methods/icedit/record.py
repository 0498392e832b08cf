"""The record of ICEdit."""

from editkit.backbone import AdapterSignature
from editkit.method import Method
from methods.icedit import collapse, moe, moe_file
from methods.icedit.conditioner import ICEditConditioner
from methods.icedit.config import ICEditConfig, default_adapter, role_of
from methods.icedit.sampler import ICEditSampler
from methods.icedit.trainer import ICEditTrainer

METHOD = Method(
    name="icedit",
    summary="the right half of a diptych is inpainted, the left half is the source",
    purpose="Draws the new picture beside the old one, as one pair. Small adapters teach it new edits.",
    main_options={
        "guidance": "How closely to follow the words",
        "adapter": "Trained weights",
        "template": "Words around the instruction",
    },
    paper="In-Context Edit: Enabling Instructional Image Editing with In-Context Generation "
    "in Large Scale Diffusion Transformer (2025)",
    role="fill",
    role_of=role_of,
    config=ICEditConfig,
    conditioner=ICEditConditioner,
    sampler=ICEditSampler,
    trainer=ICEditTrainer,
    defaults={"guidance": 50.0},
    adapter=default_adapter,
    signature=AdapterSignature(routing=moe_file.METADATA, channels=(384,)),
    load_adapter=moe.load_moe,
    collapse_adapter=collapse.collapse,
)
