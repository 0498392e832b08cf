"""A linear layer with a LoRA-MoE: a router chooses experts for each token (ICEdit, section 3.2)."""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from methods.icedit.moe_options import MoEOptions


class MoELinear(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft is untyped
    """A linear layer of any kind, plus the update of the experts that a router chooses for each token.

    It is an adapter layer to peft and diffusers, which scale it and switch it off like others.

    Args:
        base: the wrapped layer, under `base_layer`; it is not changed.
        adapter: name of the adapter.
        down_ErI: first matrices of the experts (E experts, r rank, I inputs).
        up_EOr: second matrices of the experts (O outputs).
        route_EI: matrix of the router, which has no bias.
        options: options of the LoRA-MoE; top_k, router, alpha, balance and noise are used.
    """

    def __init__(
        self,
        base: nn.Module,
        adapter: str,
        down_ErI: Tensor,
        up_EOr: Tensor,
        route_EI: Tensor,
        options: MoEOptions,
    ) -> None:
        super().__init__()
        self.base_layer, self.options, self._active_adapter = base, options, [adapter]
        self.down_ErI, self.up_EOr = nn.Parameter(down_ErI), nn.Parameter(up_EOr)
        self.route_EI = nn.Parameter(route_EI)
        rank = down_ErI.shape[1]
        self.r, self.lora_alpha = {adapter: rank}, {adapter: options.alpha or rank}
        self.scaling = {adapter: self.lora_alpha[adapter] / rank}
        self.use_rslora = {adapter: False}
        self.in_features, self.out_features = down_ErI.shape[2], up_EOr.shape[1]
        self.strength = 1.0
        """Scale of the experts, on top of the adapter's scale."""
        self.evaluation = "dense"
        self.tokens_E: Tensor | None = None
        """Number of tokens of each expert; counted where it is not None."""
        self.given_E: Tensor | None = None
        """Sum of each expert's weights over its tokens."""
        self.balance: Tensor | None = None
        """The load-balance loss of the last forward pass in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the chosen experts' updates to the base output; x is (..., I)."""
        out: Tensor = self.base_layer(x)
        active: Any = self.active_adapters
        scale = self.strength * sum(self.scaling.get(name, 0.0) for name in active)
        if self.disable_adapters or not scale:
            return out
        x = x.to(self.down_ErI.dtype)
        weights_E = self.routed(x)
        update = (self._sparse if self.evaluation == "sparse" else self._dense)(x, weights_E)
        return out + (scale * update).to(out.dtype)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Set the active adapters (peft's interface)."""
        self._active_adapter = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch all adapters of the layer on or off (peft's interface)."""
        self._disable_adapters = not enabled

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set an adapter's scale; 1 is as trained (peft's interface)."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self.lora_alpha[adapter] / self.r[adapter]

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget the adapter, without which the layer does nothing (peft's interface)."""
        for held in (self.r, self.lora_alpha, self.scaling, self.use_rslora):
            held.pop(adapter_name, None)

    def routed(self, x: Tensor) -> Tensor:
        """Return the experts' weights (..., E), zero for those not chosen."""
        options = self.options
        logits_E = F.linear(x, self.route_EI).float()
        if self.training and options.noise:
            logits_E = logits_E + options.noise * torch.randn_like(logits_E)
        best, places = logits_E.topk(options.top_k, dim=-1)
        chances_E = logits_E.softmax(-1)
        kept = best.softmax(-1) if options.router == "released" else chances_E.gather(-1, places)
        weights_E = torch.zeros_like(logits_E).scatter(-1, places, kept)
        if self.tokens_E is not None or (self.training and options.balance):
            chosen_E = torch.zeros_like(logits_E).scatter(-1, places, 1.0).flatten(0, -2)
            if self.tokens_E is not None and self.given_E is not None:
                self.tokens_E += chosen_E.sum(0).to(self.tokens_E)
                self.given_E = self.given_E + weights_E.flatten(0, -2).sum(0).to(self.tokens_E)
            if self.training and options.balance:
                share_E = chosen_E.mean(0) / options.top_k
                self.balance = len(share_E) * (share_E * chances_E.flatten(0, -2).mean(0)).sum()
        return weights_E.to(x.dtype)

    def _dense(self, x: Tensor, weights_E: Tensor) -> Tensor:
        """Compute all experts on all tokens, in two matrix products as wide as all ranks together."""
        hidden = F.linear(x, self.down_ErI.flatten(0, 1))
        hidden = hidden.reshape(*x.shape[:-1], *self.down_ErI.shape[:2])
        return F.linear((hidden * weights_E[..., None]).flatten(-2), self.up_EOr.transpose(0, 1).flatten(1))

    def _sparse(self, x: Tensor, weights_E: Tensor) -> Tensor:
        """Compute each expert on its own tokens."""
        tokens, weights_NE = x.flatten(0, -2), weights_E.flatten(0, -2)
        update = tokens.new_zeros(len(tokens), self.up_EOr.shape[1])
        for number, (down_rI, up_Or) in enumerate(zip(self.down_ErI, self.up_EOr, strict=True)):
            (places,) = weights_NE[:, number].nonzero(as_tuple=True)
            found = F.linear(F.linear(tokens[places], down_rI), up_Or) * weights_NE[places, number, None]
            update = update.index_add(0, places, found.to(update.dtype))
        return update.reshape(*x.shape[:-1], -1)
