"""Measure and plot each expert's share of the tokens, by layer and by kind of edit."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from editkit.backbone import Transformer
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.types import EditRequest
from methods.icedit.moe_handle import Experts
from methods.icedit.moe_layer import MoELinear

Shares = dict[str, list[float]]
"""A number for each expert, by module."""


def measure(
    editor: Editor, requests: Mapping[str, Iterable[EditRequest]]
) -> dict[str, tuple[Shares, Shares]]:
    """Edit, and count by kind of edit each expert's share of the tokens and its mean weight over all tokens.

    Raises:
        EditkitError: where an edit fails, or the transformer has no experts.
    """
    found = {}
    for kind, each in requests.items():
        batch = list(each)
        _edit(editor, batch[:1])  # activates the method's adapter
        handle = _experts(editor.backbone.transformer("fill"))
        handle.count()
        try:
            _edit(editor, batch)
            found[kind] = handle.shares(), handle.weights()
        finally:
            handle.count(False)
    return found


def _edit(editor: Editor, batch: list[EditRequest]) -> None:
    for result in editor.edit_many(batch):
        if result.error:
            raise EditkitError(result.error)


def plot(shares: Mapping[str, Shares], path: Path) -> None:
    """Plot a panel for each expert: layers downwards, kinds of edit across, colour for the share of tokens.

    Raises:
        EditkitError: where matplotlib is missing or the picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EditkitError("The plot needs a package: pip install 'editkit[eval]'.") from error
    kinds = list(shares)
    layers = list(shares[kinds[0]])
    number = len(shares[kinds[0]][layers[0]])
    size = (2 + number * (0.3 * len(kinds) + 0.4), 1.6 + 0.25 * len(layers))
    figure = Figure(figsize=size, layout="constrained")
    for expert, axes in enumerate(figure.subplots(1, number, sharey=True, squeeze=False)[0]):
        grid = [[shares[kind][layer][expert] for kind in kinds] for layer in layers]
        image = axes.imshow(grid, vmin=0, vmax=1, aspect="auto", cmap="viridis")
        axes.set_title(f"expert {expert}")
        axes.set_xticks(range(len(kinds)), kinds, rotation=90)
        axes.set_yticks(range(len(layers)), layers)
    figure.colorbar(image, ax=figure.axes, label="share of tokens")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise EditkitError(
            f"The plot {path} cannot be written; give a .png in a folder that exists."
        ) from error


def _experts(transformer: Transformer) -> Experts:
    layers = {n: m for n, m in transformer.named_modules() if isinstance(m, MoELinear)}
    if not layers:
        raise EditkitError("The transformer has no experts; load a LoRA-MoE first.")
    (name,) = next(iter(layers.values())).r
    return Experts(transformer, layers, name, plain=True)
