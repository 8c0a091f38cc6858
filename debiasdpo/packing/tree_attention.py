"""Attention over a prefix tree: every token attends to its ancestors and itself, and to no other.

Three ways, with one result. `dense`: a boolean N x N mask under torch's SDPA. `segments`: one
flash-attention call for each rectangle of (descendants of a segment) x (its tokens), merged by their
log-sum-exps, so that no mask of N x N and no masked-out score exists. `flex`: FlexAttention with a
block mask, for a GPU.

Models are loaded with the attention named `NAME`. It is SDPA, unless a forward pass is given
`tree=`, which transformers hands down to every layer. A tree has no attention dropout, whatever the
model's configuration says.
"""

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from debiasdpo.cluster.gpus import BFLOAT16
from debiasdpo.config.model import Attention
from debiasdpo.errors import UserError
from debiasdpo.packing.block_attention import Block, attend, repeat
from debiasdpo.packing.prefix_tree import PrefixTree, pack

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig

log = logging.getLogger(__name__)

Kind = Literal["dense", "segments", "flex"]

NAME = "prefix_tree"

# What a layer may hand to its attention beside queries, keys and values to change their scores.
_CHANGES = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")

# Graphs of flex that one process may compile: some eight a model, and a sweep has several models.
_GRAPHS = 64

# Subtrees up to this many tokens are one call with a small mask: cheaper than many tiny calls.
_SMALL = 128


class Kept(NamedTuple):
    """What is kept of a layer, to go on from."""

    keys: "Tensor"  # (1, kv heads, N, size)
    values: "Tensor"
    window: int | None  # the layer attends to the last so many tokens only


class TreeAttention:
    """What one forward pass over a packed tree gives its layers: called by each with its tensors."""

    def __init__(
        self,
        tree: PrefixTree,
        kind: Kind,
        device: "torch.device",
        kept: list[Kept] | None = None,
    ) -> None:
        """`kept` is given what is to be kept of each layer."""
        self.tree, self.kind, self.device, self.kept = tree, kind, device, kept
        self.windows: list[int | None] = []  # of each layer that has asked
        self._cache: dict[object, Any] = {}

    def __call__(
        self, query: "Tensor", key: "Tensor", value: "Tensor", scale: float, window: int | None
    ) -> "Tensor":
        """query (1, heads, N, size), key and value (1, kv heads, N, size) -> (1, heads, N, size).

        `window`: the layer attends to the last so many tokens only (a sliding window).
        """
        import torch

        self.windows.append(window)
        if self.kept is not None:
            self.kept.append(Kept(key.contiguous(), value.contiguous(), window))
        if window is not None and window > int(self.tree.depth.max()):
            window = None
        if self.kind == "flex":
            return _flex(query, key, value, self._block_mask(window), scale)
        same_size = query.shape[-1] == value.shape[-1]  # as the kernels of segments want it
        if self.kind == "segments" and window is None and same_size:
            blocks = self._once(("blocks", query.dtype), lambda: self._blocks(query.dtype))
            return attend(query, key, value, blocks, scale)
        groups = query.shape[1] // key.shape[1]
        return torch.nn.functional.scaled_dot_product_attention(
            query, repeat(key, groups), repeat(value, groups), self._mask(window), scale=scale
        )

    def _once(self, name: object, make: Callable[[], Any]) -> Any:
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    def _mask(self, window: int | None) -> "Tensor":
        """(N, N), True: the row's token attends to the column's."""
        mask: Tensor = self._once(
            ("mask", window), lambda: self._attends(0, len(self.tree.ids), window)
        )
        return mask

    def _attends(self, start: int, stop: int, window: int | None) -> "Tensor":
        import torch

        index = torch.arange(start, stop, device=self.device)
        end = torch.as_tensor(self.tree.end[start:stop], device=self.device)
        mask = (index[None, :] <= index[:, None]) & (index[:, None] < end[None, :])
        if window is not None:
            depth = torch.as_tensor(self.tree.depth[start:stop], device=self.device)
            mask &= depth[:, None] - depth[None, :] < window
        return mask

    def _blocks(self, dtype: "torch.dtype") -> list[Block]:
        import torch

        blocks: list[Block] = []
        small_until = 0  # what lies before is in a small subtree that is done
        for start, stop in self.tree.segments.tolist():
            end = int(self.tree.end[start])
            first = self.tree.depth[start] == 0
            if start < small_until:
                continue
            whole, below = slice(start, end), slice(stop, end)
            if end - start <= _SMALL and stop < end:
                small_until = end
                mask = torch.zeros(end - start, end - start, dtype=dtype, device=self.device)
                mask.masked_fill_(~self._attends(start, end, None), -torch.inf)
                blocks.append(Block(whole, whole, mask, False, first))
                continue
            segment = slice(start, stop)
            blocks.append(Block(segment, segment, None, True, first))
            if stop < end:
                blocks.append(Block(below, segment, None, False, first))
        return blocks

    def _block_mask(self, window: int | None) -> Any:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask

        size = len(self.tree.ids)
        # Copied once, not by every layer: each copy makes the host wait for the GPU.
        end = self._once("end", lambda: torch.as_tensor(self.tree.end, device=self.device))
        depth = self._once("depth", lambda: torch.as_tensor(self.tree.depth, device=self.device))

        def attends(batch: Any, head: Any, i: Any, j: Any) -> Any:
            ancestor = (j <= i) & (i < end[j])
            return ancestor if window is None else ancestor & (depth[i] - depth[j] < window)

        return self._once(
            ("block mask", window),
            lambda: create_block_mask(attends, None, None, size, size, device=self.device),
        )


def head_size(config: "PretrainedConfig") -> int:
    """Numbers of a head, of a language model's configuration; of the largest, where layers differ."""
    layers = config.per_layer_config if config.is_heterogeneous else [config]
    size: int = max(
        getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
        for layer in layers
    )
    return size


def choose(choice: Attention, device: "torch.device", dtype: "torch.dtype", size: int) -> Kind:
    """The way to compute attention on this device, for heads of `size` numbers in this dtype, with the reason
    in the log, once."""
    if choice == "segments" and device.type != "cpu":
        raise UserError(
            f"model.attention: segments has kernels for a CPU only, not for {device.type};"
            " set model.attention=auto, flex or dense"
        )
    if choice != "auto":
        _say(choice, "as model.attention says")
        return choice
    if device.type == "cpu":
        _say("segments", "on a CPU it is the quickest, and needs no N x N mask")
        return "segments"
    if device.type != "cuda":
        _say("dense", f"neither of the others runs on {device.type}")
        return "dense"
    if problem := _flex_problem(device, dtype, size):
        _say("dense", f"a GPU, but flex fails: {problem}")
        return "dense"
    _say("flex", "a GPU; blocks without a common ancestor are skipped")
    return "flex"


@functools.cache
def _flex_problem(device: "torch.device", dtype: "torch.dtype", size: int) -> str | None:
    """Why flex does not run on this GPU, by trying it forward and backward on a few tokens; None if it does.

    It is compiled here, which takes a C compiler and Python's headers, and for such heads, for which it may
    take more of the GPU's shared memory than there is: better to know before hours of rating.
    """
    import torch

    if torch.cuda.get_device_capability(device) < BFLOAT16:
        return f"{torch.cuda.get_device_name(device)} does not compute in bfloat16"
    tree = pack([(0, 1), (0, 2)], [[2], [2]])
    try:
        states = torch.zeros(1, 2, len(tree.ids), size, device=device, dtype=dtype)
        q, k, v = (states.clone().requires_grad_() for _ in range(3))
        with torch.enable_grad():  # rating, which comes first, has none
            TreeAttention(tree, "flex", device)(q, k, v, 1.0, None).sum().backward()
    except Exception as error:  # noqa: BLE001 (whatever a compiler, a driver or a kernel may say)
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


@functools.cache
def _say(kind: Kind, reason: str) -> None:
    log.info("attention over prefix trees: %s (%s)", kind, reason)


def register() -> None:
    """Make the attention known to transformers; may be called again."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention_forward(
    module: "torch.nn.Module",
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: "Callable[..., Tensor] | None" = None,
    **rest: Any,
) -> "tuple[Tensor, None]":
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # With or without a tree: SDPA would leave some of these out without a word.
    changes = [name for name in _CHANGES if rest.get(name) is not None]
    if changes or (tree is not None and attention_mask is not None and attention_mask.numel() > 1):
        raise UserError(
            f"model.path: {_model_type(module)} models change their attention scores"
            f" ({changes[0] if changes else 'a mask of their own'}), which packed scoring cannot do;"
            " choose another model"
        )
    if tree is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **rest
        )
        return out, None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    # What the layer hands over counts: its module may name a window that it does not use.
    out = tree(query, key, value, scale, rest.get("sliding_window"))
    return out.transpose(1, 2).contiguous(), None


def _model_type(module: Any) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", type(module).__name__))


def _flex(
    query: "Tensor", key: "Tensor", value: "Tensor", block_mask: Any, scale: float
) -> "Tensor":
    import torch

    if query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad:
        raise UserError(
            "model.attention: flex has no gradients on a CPU; set model.attention=auto or segments"
        )
    # Under 128 tokens torch would take its decoding kernel, which cannot be compiled for lengths that
    # vary (NoValidChoicesError; torch 2.11 on an H100).
    options: dict[str, Any] = {"FORCE_USE_FLEX_ATTENTION": True}
    if query.dtype == torch.float32:
        # With torch's three, heads of 128 take 129 KB of shared memory; an A10 or RTX 4090 has 99.
        options["fwd_num_stages"] = 2
    kernel = _flex_kernel(query.device.type != "cpu")
    out: Tensor = kernel(
        query, key, value, block_mask=block_mask, scale=scale,
        enable_gqa=query.shape[1] > key.shape[1],  # heads of keys serve several of queries, as they are
        kernel_options=options,
    )  # fmt: skip
    return out


@functools.cache
def _flex_kernel(compiled: bool) -> Any:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    if not compiled:
        return flex_attention
    # There is a graph for each number of heads, with and without gradient, for one block and for more. Past
    # the limit (8 of them) torch would go on with full score matrices; with fullgraph it raises.
    config: Any = torch._dynamo.config
    config.recompile_limit = max(_GRAPHS, config.recompile_limit)
    # Every tree has a size of its own: dynamic, so that each does not compile anew.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)
