"""Hash the weights that a run begins from and does not train, so that a resumed run notices others."""

import hashlib
import json

from editkit import adapters
from editkit.backbone import Backbone
from editkit.train.settings import EditTrainConfig


def content(backbone: Backbone, role: str, settings: EditTrainConfig) -> str:
    """Hash the files of all parts whose values a checkpoint does not hold.

    Args:
        backbone: before adapters are attached.
        role: the transformer's role.
        settings: say what trains.

    Raises:
        EditkitError: where a file is missing or cannot be read.
    """
    found = backbone.fingerprints(role)
    # As a teacher or a prior, the transformer that the run began from is needed until the end.
    needed = settings.prior_share or settings.distill is not None
    trained = ["transformer"] if settings.trainable == "full" and not needed else []
    trained += ["text_encoder", "text_encoder_2"] if settings.text_encoders else []
    kept = {part: value for part, value in found.items() if part not in trained}
    if settings.adapter:
        kept["adapter"] = adapters.digest(adapters.check_adapter_file(settings.adapter))
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=16).hexdigest()
