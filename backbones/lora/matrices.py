"""Check the tensors that a LoRA file holds for one module, and make an update of them."""

import math
from collections.abc import Mapping

from torch import Tensor

from backbones.lora.low_rank import LowRankUpdate
from editkit.errors import EditkitError


def make_update(module: str, parts: Mapping[str, Tensor], alpha: float) -> LowRankUpdate:
    """Make an update of a module's tensors.

    Args:
        module: name of the module, for error messages.
        parts: `down` (r, I) and `up` (O, r); optionally `alpha`, `bias` and `magnitude`.
        alpha: used where `parts` has none.

    Raises:
        EditkitError: where tensors are missing, do not fit each other, or are not finite.
    """
    if lacking := {"down", "up"} - set(parts):
        raise EditkitError(f"{module} lacks its {' and '.join(sorted(lacking))} matrix; give the whole file.")
    down_rI, up_Or = parts["down"], parts["up"]
    if down_rI.ndim != 2 or up_Or.ndim != 2 or not len(down_rI) or down_rI.shape[0] != up_Or.shape[1]:
        shapes = f"{tuple(down_rI.shape)} and {tuple(up_Or.shape)}"
        raise EditkitError(f"{module} has matrices of {shapes}, whose ranks differ; give an undamaged file.")
    if "alpha" in parts and not parts["alpha"].is_meta:
        if parts["alpha"].numel() != 1:
            raise EditkitError(f"{module} has {parts['alpha'].numel()} alphas; give one.")
        alpha = float(parts["alpha"])
    sound = [part.is_meta or bool(part.float().isfinite().all()) for part in parts.values()]
    if not all(sound) or not math.isfinite(alpha):
        raise EditkitError(f"{module} holds values that are not finite; the file is damaged.")
    if not alpha:
        raise EditkitError(f"{module} has alpha 0, so its matrices would change nothing; give another file.")
    beside = {
        f"{name}_O": _of_rows(module, parts[name], up_Or) for name in ("bias", "magnitude") if name in parts
    }
    return LowRankUpdate(down_rI=down_rI, up_Or=up_Or, alpha=alpha, **beside)


def _of_rows(module: str, tensor: Tensor, up_Or: Tensor) -> Tensor:
    """Reshape a bias or magnitudes, (O,) or (O, 1), to one value for each output (O,)."""
    if tensor.shape not in ((len(up_Or),), (len(up_Or), 1)):
        shape = tuple(tensor.shape)
        raise EditkitError(
            f"{module} has a bias or magnitudes of shape {shape}, not one for each of its {len(up_Or)} "
            "outputs; a DoRA that scales inputs is not supported."
        )
    return tensor.reshape(-1)
