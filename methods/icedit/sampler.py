"""ICEdit's sampler: plain Euler on Fill, as released."""

from editkit.method import Sampler
from methods.icedit.config import ICEditConfig


class ICEditSampler(Sampler):
    """Nothing but the common walk; the diptych does the rest."""

    config: ICEditConfig
