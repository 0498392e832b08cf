"""The record of ACE++."""

from editkit.backbone import AdapterSignature
from editkit.method import Method
from methods.aceplus.conditioner import ACEPlusConditioner
from methods.aceplus.config import ACEPlusConfig, default_adapter, role_of
from methods.aceplus.sampler import ACEPlusSampler
from methods.aceplus.tasks import TASKS
from methods.aceplus.trainer import ACEPlusTrainer

METHOD = Method(
    name="aceplus",
    summary="picture, mask and noise join on channels, references stand beside them",
    purpose="Redraws what lies under the paint, and brings in things from reference pictures.",
    main_options={
        "task": "Kind of edit",
        "scale": "How much under the paint is redrawn, 0 to 1",
        "guidance": "How closely to follow the words",
    },
    paper="ACE++: Instruction-Based Image Creation and Editing via Context-Aware Content Filling (2025)",
    role="fill",
    role_of=role_of,
    config=ACEPlusConfig,
    conditioner=ACEPlusConditioner,
    sampler=ACEPlusSampler,
    trainer=ACEPlusTrainer,
    defaults={"guidance": 50.0},
    tasks=TASKS,
    adapter=default_adapter,
    signature=AdapterSignature(channels=(384, 448)),
)
