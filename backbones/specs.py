"""The table of backbones: names, roles, licences, defaults and needs. It imports nothing heavy."""

from dataclasses import replace
from pathlib import Path

from editkit.backbone import Family, Role

NON_COMMERCIAL = "FLUX.1 [dev] Non-Commercial License"
KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104),
    (1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720),
    (1504, 688), (1568, 672),
)  # fmt: skip
"""Sizes (width, height) that FLUX.1 Kontext was trained at."""

PUBLISHED_SHAPE = {
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
}
"""Values in the transformer's config that all published FLUX.1 models share."""
PARAMETERS = {
    "transformer": 11_901_408_320,
    "vae": 83_819_683,
    "text_encoder": 123_060_480,
    "text_encoder_2": 4_762_310_656,
}
"""Number of parameters of FLUX.1's models; the transformer's is FLUX.1 [dev]'s."""
ROLES = ("text", "kontext", "fill", "ace")
"""Names of all roles."""
TINY = Path(__file__).resolve().parent / "tiny"
"""Folder of the embedded backbone's weights."""
_TINY_KONTEXT = Role(
    source=str(TINY / "kontext"),
    in_channels=64,
    steps=8,
    guidance=1.0,
    licence="Apache-2.0",
    sizes=((128, 128),),
    area=128 * 128,
    disk_gb=0.02,
    memory_gb=0.02,
    cached_context=True,
)
_TINY_FILL = replace(_TINY_KONTEXT, source=str(TINY / "fill"), in_channels=384, cached_context=False)
_TINY_ACE = replace(_TINY_FILL, in_channels=448, start="fill")


def _dev(repository: str, *, in_channels: int, steps: int, guidance: float, **needs: object) -> Role:
    return Role(
        source=f"black-forest-labs/{repository}",
        in_channels=in_channels,
        steps=steps,
        guidance=guidance,
        licence=NON_COMMERCIAL,
        **needs,  # type: ignore[arg-type]
    )


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="tiny",
            base="tiny",
            summary="embedded; trained by editkit on ShapesWorld, 128x128, runs on any CPU",
            sequence_length=48,
            roles={"text": _TINY_KONTEXT, "kontext": _TINY_KONTEXT, "fill": _TINY_FILL, "ace": _TINY_ACE},
            panels_alone=True,
        ),
        Family(
            name="flux1-dev",
            base="flux1-dev",
            summary="FLUX.1 [dev], Kontext, Fill and ACE++: 12 B parameters each, for photographs",
            sequence_length=512,
            roles={
                "text": _dev("FLUX.1-dev", in_channels=64, steps=28, guidance=3.5),
                "kontext": _dev(
                    "FLUX.1-Kontext-dev", in_channels=64, steps=28, guidance=2.5, sizes=KONTEXT_SIZES
                ),
                "fill": _dev("FLUX.1-Fill-dev", in_channels=384, steps=28, guidance=30.0),
                "ace": _dev(
                    "FLUX.1-Fill-dev",
                    in_channels=448,
                    steps=28,
                    guidance=50.0,
                    file="ali-vilab/ACE_Plus/ace_plus_fft.safetensors",
                ),
            },
        ),
        Family(
            name="flux1-schnell",
            base="flux1-schnell",
            summary="FLUX.1 [schnell]: text to image in four steps",
            sequence_length=256,
            roles={
                "text": Role(
                    source="black-forest-labs/FLUX.1-schnell",
                    in_channels=64,
                    steps=4,
                    guidance=None,
                    licence="Apache-2.0",
                )
            },
        ),
        Family(
            name="flux1-krea",
            base="flux1-dev",
            summary="FLUX.1 Krea [dev]: text to image with a photographic look",
            sequence_length=512,
            roles={"text": _dev("FLUX.1-Krea-dev", in_channels=64, steps=28, guidance=4.5)},
        ),
    )
}
