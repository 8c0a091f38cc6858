"""What is called on the tensors of a GPU that is not there: memory, traffic, copies, dtypes."""

import weakref
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

# Arguments of fused kernels that are read and then written.
IN_PLACE = {"_swiglu_backward_kernel": (1, 2), "_triton_rope": (0, 2)}
LARGE = 2**21  # numbers; adapters have less


class Watch(TorchDispatchMode):
    """Sums up the storages on the GPU that are alive, and notes what makes the host wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()
        self.kernels = self.traffic = 0  # calls that compute, bytes that these read and write
        self.calls: list[str] = []  # of all operations, with what they are given
        self.copies: Counter[str] = Counter()
        self.casts = 0  # copies of activations into another dtype
        self.products: Counter[tuple[int, str]] = Counter()  # by columns and dtype of the result

    def begin(self) -> None:
        self.peak = self.now
        self.kernels = self.traffic = self.casts = 0
        self.calls.clear()
        self.copies.clear()
        self.products.clear()

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self.seen.discard(key)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if tensor.device.type != "cuda" or key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_iter(out) if isinstance(t, torch.Tensor)]
        for tensor in made:
            self._add(tensor)
        name = func.overloadpacket.__name__
        if not func.is_view and "empty" not in name and any(t.device.type == "cuda" for t in made):
            self.kernels += 1
            moved = [*given, *made]
            if name in ("embedding", "index", "index_select", "gather"):
                moved = made  # of a table, what is taken from it
            elif name in ("index_copy_", "index_fill_"):
                moved = given[1:]  # and what is put there
            self.traffic += sum(t.nbytes for t in {id(t): t for t in moved}.values())
        shapes = [(t.dtype, tuple(t.shape), t.stride()) for t in (*given, *made)]
        self.calls.append(f"{func} {shapes}")
        if name == "_to_copy" and given[0].dtype != made[0].dtype and made[0].numel() > LARGE:
            self.casts += 1
        devices = {t.device.type for t in (*given, *made) if t.numel()}
        if name == "mm":
            self.products[made[0].shape[-1], str(made[0].dtype)] += 1
        if name in ("_local_scalar_dense", "nonzero") and "cuda" in devices:
            self.copies["to the host"] += 1
        elif name in ("_to_copy", "copy_") and len(devices) == 2:
            self.copies["to the host" if made[0].device.type == "cpu" else "to the GPU"] += 1
        return out

    def launch(self, kernel: Any, *args: Any, **options: Any) -> None:
        """In place of a Triton kernel: what it reads and writes."""
        self.kernels += 1
        changed = IN_PLACE.get(kernel.fn.__name__, ())
        self.traffic += sum(
            t.nbytes * (1 + (i in changed))
            for i, t in enumerate(args)
            if isinstance(t, torch.Tensor)
        )

    def counts(self) -> dict[str, Any]:
        return {
            "peak": self.peak, "traffic": self.traffic, "kernels": self.kernels,
            "casts": self.casts, **self.copies,
        }  # fmt: skip
