"""ACE++'s sampler: the shared one, at the time shift of the whole canvas, as released."""

from editkit.method import Sampler
from methods.aceplus.config import ACEPlusConfig


class ACEPlusSampler(Sampler[ACEPlusConfig]):
    """Denoises all units, references included; only the target's panel is kept."""
