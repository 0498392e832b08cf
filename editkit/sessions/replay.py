"""Make a picture again from the recipe in its file, and say how near it comes and why not nearer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from editkit.errors import EditkitError
from editkit.imaging import images, masks
from editkit.inference import provenance
from editkit.types import EditRequest

if TYPE_CHECKING:
    from editkit.inference.editor import PictureEditor
    from editkit.types import ImageInput

GREATEST, MEAN = 16.0, 1.0
"""Largest and mean difference, in levels of 255, of a picture that counts as close: rounding differences
between devices or batches."""
NEEDED = ("instruction", "method", "backbone", "seed", "steps", "guidance", "precision", "options")
COMPARED = ("weights", "versions", "device", "precision", "loading", "options", "canvas")


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The result of making a picture again.

    Attributes:
        verdict: identical (bit for bit), close or different.
        greatest: largest difference of a pixel's channel, in levels of 255.
        mean: mean difference of the pixels' channels, in levels of 255.
        reasons: differences between the two recipes, in plain words; empty where none is known.
        image: the picture that was made now.
        recipe: the recipe of that picture.
    """

    verdict: str
    greatest: float
    mean: float
    reasons: tuple[str, ...]
    image: Image.Image
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether the pictures are identical or close."""
        return self.verdict != "different"

    def summary_line(self) -> str:
        """Say in one line how near the picture comes, and why not nearer."""
        if self.verdict == "identical":
            return "identical"
        apart = f"at most {self.greatest:g} of 255 levels apart, {self.mean:.3g} on average"
        known = "; ".join(self.reasons) or "the recipes do not differ"
        return f"{self.verdict}: {apart}; {known}"


def replay(
    path: str | Path,
    *,
    image: ImageInput | None = None,
    mask: ImageInput | None = None,
    references: Sequence[ImageInput] = (),
    editor: Callable[[Mapping[str, Any]], PictureEditor],
) -> Replay:
    """Make a picture again from its recipe, and compare the two.

    Args:
        path: a PNG that editkit wrote.
        image: the source, where it is neither at the recipe's path nor in the picture's folder.
        mask: the mask, where it is at neither place.
        references: all references, where one of them is at neither place.
        editor: gives an editor for a recipe.

    Raises:
        EditkitError: where the picture holds no recipe of an edit, its inputs cannot be found or have other
            hashes, or the edit cannot be carried out here.
    """
    path, recipe = Path(path), provenance.read_recipe(path)
    if missing := [key for key in NEEDED if key not in recipe]:
        raise EditkitError(
            f"The recipe in {path} is not one of an edit (it has no {missing[0]}); give a picture that "
            "`editkit edit` or `editkit generate` wrote."
        )
    made = images.load_image(path)
    try:
        request = _request(path, recipe, image, mask, references)
        chosen = editor(recipe)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise EditkitError(f"The recipe in {path} is damaged; give another copy.") from error
    (result,) = chosen.edit_many([request])
    if result.image is None:
        raise EditkitError(result.error or "The edit failed.")
    again = images.load_image(result.image)
    if again.size != made.size:
        given, now = (f"{width}x{height}" for width, height in (made.size, again.size))
        raise EditkitError(
            f"The picture {path} is {given} pixels and its recipe makes {now}; give one as it was written."
        )
    apart = np.abs(_levels(made) - _levels(again))
    greatest, mean = float(apart.max()), float(apart.mean())
    verdict = "close" if greatest <= GREATEST and mean <= MEAN else "different"
    return Replay(
        verdict=verdict if greatest else "identical",
        greatest=greatest,
        mean=mean,
        reasons=tuple(_reasons(recipe, result.recipe)) if greatest else (),
        image=result.image,
        recipe=result.recipe,
    )


def _request(
    path: Path,
    recipe: Mapping[str, Any],
    image: ImageInput | None,
    mask: ImageInput | None,
    references: Sequence[ImageInput],
) -> EditRequest:
    paths, digests = recipe.get("paths") or {}, recipe.get("references_sha256") or []
    source = found_mask = None
    if recipe.get("source_sha256"):
        source = _found(path, "image", image, paths.get("image"), recipe["source_sha256"], _picture_sha256)
    elif image is not None:
        raise EditkitError(f"The picture {path} was made without a source; leave --image out.")
    if recipe.get("mask"):
        found_mask = _found(path, "mask", mask, paths.get("mask"), recipe.get("mask_sha256"), _mask_sha256)
    count = int(recipe.get("references") or 0)
    if references and len(references) != count:
        raise EditkitError(f"The picture {path} has {count} references; give all of them, or none.")
    found_references = [
        _found(path, "reference", given, known, digest, _picture_sha256)
        for given, known, digest in zip(
            _filled(references, count),
            _filled(paths.get("references"), count),
            _filled(digests, count),
            strict=True,
        )
    ]
    settings = provenance.settings(recipe)
    return EditRequest(image=source, mask=found_mask, references=tuple(found_references), **settings)


def _found(
    path: Path,
    what: str,
    given: ImageInput | None,
    known: str | None,
    digest: str | None,
    hashed: Callable[[ImageInput], str],
) -> ImageInput:
    """Find an input picture by its hash: the given one, the recipe's file, or one beside the result."""
    if given is not None:
        if digest is not None and hashed(given) != digest:
            raise EditkitError(
                f"The {what} {_name(given)} is not the one that {path} was made from (its pixels have "
                f"another SHA-256); give the original one by --{what}."
            )
        return given
    for place in (Path(known), path.parent / known, path.parent / Path(known).name) if known else ():
        if digest is not None and place.is_file() and hashed(place) == digest:
            return place
    was = f"it was {known}, which is missing or was changed" if known else "the recipe names no file"
    raise EditkitError(f"The {what} that {path} was made from cannot be found ({was}); give it by --{what}.")


def _picture_sha256(picture: ImageInput) -> str:
    return provenance.pixels_sha256(images.load_image(picture))


def _mask_sha256(mask: ImageInput) -> str:
    return provenance.mask_sha256(masks.load_mask(mask, images.load_image(mask, "mask").size).values_HW)


def _name(picture: ImageInput) -> str:
    return str(picture) if isinstance(picture, (str, Path)) else "given"


def _filled(values: Sequence[Any] | None, count: int) -> list[Any]:
    """Fill a list up to a length with None."""
    return [*(values or ()), *[None] * count][:count]


def _levels(picture: images.Picture) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return colours and opacity, (H, W, 4)."""
    opacity = np.full(picture.rgb.shape[:2], 255, np.uint8) if picture.alpha is None else picture.alpha
    return np.concatenate((picture.rgb, opacity[..., None]), axis=-1).astype(np.int16)


def _reasons(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between two recipes of one request, in plain words."""
    for key in COMPARED:
        before, after = then.get(key), now.get(key)
        if before == after or before is None:
            continue
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            yield f"another {key} ({_short(before)} then, {_short(after)} now)"
            continue
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                was, is_now = _short(before.get(name)), _short(after.get(name))
                yield f"other {key} of {name} ({was} then, {is_now} now)"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    return text[:8] if len(text) >= 64 else text
