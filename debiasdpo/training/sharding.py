"""All weights trained by several processes, one a GPU: each holds a part of them, of gradients and optimiser.

FSDP2 (`torch.distributed.fsdp.fully_shard`): the weights of a layer are gathered while it runs, forward and
backward, and its gradients are summed over the processes and scattered. `accelerate launch` starts the
processes; its own plugin for FSDP is not used, since it shards on GPUs only, which no test could reach, and
gathers in a model's `forward`, which a packed pass goes around.
"""

import functools
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasdpo.cluster import processes
from debiasdpo.training.whole import Whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PreTrainedModel

    from debiasdpo.packing.logprobs import Completion, Scorer, States

_FOLDER, _SCHEDULER = "shards", "scheduler.pt"  # in a checkpoint


class Shards:
    """A model's weights over all processes. Whatever gathers them, all processes do together."""

    def __init__(self, model: Any, *, bf16: bool) -> None:
        """Keep this process's part of the weights, in float32. `bf16`: they are gathered, and computed with,
        in bfloat16. `model` is changed."""
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        self.model = model
        self._whole = Whole(model) if processes.rank() == 0 else None  # which alone rates
        mesh = init_device_mesh(model.device.type, (processes.size(),))
        low = torch.bfloat16 if bf16 else None
        policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
        # Layer by layer, so that there is never more than one in float32 and whole.
        for part in (*self.model.get_decoder().layers, self.model):
            fully_shard(part.float(), mesh=mesh, mp_policy=policy)
        self.model.gathered = types.MethodType(lambda _, work: work(), self.model)
        register_fsdp_forward_method(self.model, "gathered")

    def scorer(self, score: "Scorer") -> "Scorer":
        """The same for the sharded model, one forward pass at a time."""

        def found(
            model: "torch.nn.Module",
            completions: "Sequence[Completion]",
            *,
            states: "States | None" = None,
        ) -> "torch.Tensor":
            work = functools.partial(score, model, completions, states=states)
            mine = model is self.model
            return self.model.gathered(work) if mine else work()

        return found

    def whole(self) -> "PreTrainedModel | None":
        """The model with its weights as they are now, in the dtype it was loaded in: in the first process;
        None in the others."""
        import torch

        with torch.no_grad():
            weights = ((name, p.full_tensor()) for name, p in self.model.named_parameters())
            if self._whole is not None:
                return self._whole.take(weights)
            for _ in weights:  # all processes gather
                pass
        return None

    def save(self, optimizer: "torch.optim.Optimizer", checkpoint: Path) -> None:
        """Weights and the optimiser's state; each process writes its part."""
        from torch.distributed.checkpoint.state_dict_saver import save

        save(self._state(optimizer), checkpoint_id=checkpoint / _FOLDER)

    def load(self, optimizer: "torch.optim.Optimizer", checkpoint: Path) -> None:
        """What any number of processes has saved."""
        from torch.distributed.checkpoint.state_dict import set_state_dict
        from torch.distributed.checkpoint.state_dict_loader import load

        state = self._state(optimizer)
        load(state, checkpoint_id=checkpoint / _FOLDER)
        set_state_dict(
            self.model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )

    def _state(self, optimizer: "torch.optim.Optimizer") -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, state = get_state_dict(self.model, optimizer)
        return {"model": weights, "optimizer": state}


@functools.cache
def sharding_trainer() -> Any:
    """`transformers.Trainer` for a model whose weights may be sharded: these are saved and loaded with the
    optimiser's state. Made at the first use, since transformers is imported where it is used."""
    import torch
    from transformers import Trainer

    class ShardingTrainer(Trainer):
        def __init__(self, shards: Shards | None, **options: Any) -> None:
            super().__init__(**options)
            self.shards = shards
            if shards is not None:  # its word for weights that accelerate is not to wrap
                self.is_distributed_loading_by_transformers = True

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            if self.shards is None:
                super()._save_optimizer_and_scheduler(output_dir)
                return
            self.shards.save(_inner(self.optimizer), Path(output_dir))
            if processes.rank() == 0:
                scheduler: Any = self.lr_scheduler
                torch.save(scheduler.state_dict(), Path(output_dir, _SCHEDULER))

        def _load_from_checkpoint(self, resume_from_checkpoint, model=None):  # type: ignore[no-untyped-def]
            if self.shards is None:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if self.shards is None or checkpoint is None:
                super()._load_optimizer_and_scheduler(checkpoint)
                return
            self.shards.load(_inner(self.optimizer), Path(checkpoint))
            scheduler: Any = self.lr_scheduler
            scheduler.load_state_dict(torch.load(Path(checkpoint, _SCHEDULER), weights_only=True))

        def _get_grad_norm(self, model, grad_norm=None):  # type: ignore[no-untyped-def]
            return number(super()._get_grad_norm(model, grad_norm))  # type: ignore[no-untyped-call]

    return ShardingTrainer


def number(norm: Any) -> float:
    """A gradient's norm, also where the gradient is sharded."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _inner(optimizer: Any) -> Any:
    """torch's optimiser, which accelerate wraps."""
    return getattr(optimizer, "optimizer", optimizer)
