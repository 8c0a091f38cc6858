"""GPU memory that a job takes at its peak, estimated from the model's shape."""

from itertools import chain

from debiasdpo.config.job import JobConfig
from debiasdpo.models.shape import Shape

GPU_OVERHEAD = 1.5e9  # CUDA, kernels, and what the allocator cannot use
_LOGITS = 0.95e9  # the largest block of logits, with what is made of it (docs/engine.md)
_CHECKPOINTED = (False, 4, 3, 2, True)  # no layer, every fourth ... every one: less and less memory
_SPARE = 1.15  # a plan is within 6 % of counted peaks (tests/gpu_path), and no card has told
_NF4 = 0.52  # bytes of a weight, with the scales of its block


def peak_memory(
    config: JobConfig,
    largest_tree: int,
    shape: Shape,
    gpus: int = 1,
    at_once: int = 1,
    largest_rated: int = 0,
) -> float:
    """Bytes at the peak of rating or of training: weights, what is trained, activations. `largest_tree`:
    tokens of the largest pass of a training, which one pair may make larger than `train.tree.max_tokens`;
    `largest_rated`: of a rating, where that is more. `gpus`: over which the weights are spread where all are
    trained; the bytes are those of the first. `at_once`: passes of a training.

    What layers keep is what autograd saves of them, byte by byte, in the architectures of the paper; held
    against counted peaks by `tests/gpu_path`.
    """
    size = _number_bytes(config)
    in_4_bits = config.local_model.nf4 and config.train.adapter != "full"
    frozen = shape.linear * (_NF4 if in_4_bits else size) + shape.other * size
    rating = frozen + max(shape.cache * size * max(largest_tree, largest_rated), _LOGITS)
    if not config.method.trains_weights:
        return rating + GPU_OVERHEAD
    kept, worked = _activations(config, shape, size)
    unpacked = size * max(a * b for a, b in chain(*shape.matrices.values())) if in_4_bits else 0
    training = training_state(config, shape, gpus) + at_once * (
        kept * largest_tree + max(worked * largest_tree + unpacked, _LOGITS)
    )
    if config.train.adapter == "lora":
        training += frozen
    return max(rating, training) + GPU_OVERHEAD


def decide_checkpointing(
    config: JobConfig,
    largest_tree: int,
    shape: Shape,
    room: float,
    gpus: int = 1,
    largest_rated: int = 0,
) -> JobConfig:
    """The job with `train.gradient_checkpointing` decided: with auto, in as few layers as let a step on a
    tree of so many tokens fit into `room` bytes, with some to spare for what the estimate is off."""
    if config.train.gradient_checkpointing != "auto":
        return config
    for layers in _CHECKPOINTED:
        train = config.train.model_copy(update={"gradient_checkpointing": layers})
        decided = config.model_copy(update={"train": train})
        needed = peak_memory(decided, largest_tree, shape, gpus, largest_rated=largest_rated)
        if _SPARE * needed <= room:
            break
    return decided


def training_state(config: JobConfig, shape: Shape, gpus: int = 1) -> float:
    """Bytes of all that is trained, whatever the batches: weights and gradients in float32, and the
    optimiser's. With train=full in 16 bits also the whole model that rates (`training.whole`) and, on one
    GPU, autocast's copies of the weights; on several what is gathered of them (`training.sharding`)."""
    parameters = trained_parameters(config, shape)
    state = float(parameters * (8 + optimizer_bytes(config)))
    if config.train.adapter != "full":
        return state
    size = _number_bytes(config)
    if gpus == 1:
        return state + (2 * parameters * size if size == 2 else 0)
    gathered = shape.other + 2 * shape.linear / shape.layers  # one layer, and the next
    return state / gpus + size * (parameters + gathered)


def too_large(
    config: JobConfig, shape: Shape, room: float, gpus: int = 1, device: str = "GPU"
) -> str | None:
    """Why devices of `room` bytes each cannot train all weights, whatever the batches; None if they may."""
    full = config.method.trains_weights and config.train.adapter == "full"
    if not full or (needed := training_state(config, shape, gpus)) <= room:
        return None
    billions = trained_parameters(config, shape) / 1e9
    where = f"one {device}" if gpus == 1 else f"each of {gpus} {device}s"
    return (
        f"train.adapter: weights, gradients and optimiser of all {billions:.1f} billion parameters take"
        f" {needed / 1e9:.0f} GB on {where} before anything runs, and there are {room / 1e9:.0f} GB; spread"
        " them over more GPUs with accelerate launch (docs/cluster.md), set train=qlora, or choose a smaller"
        " model"
    )


def _activations(config: JobConfig, shape: Shape, size: int) -> tuple[float, float]:
    """Bytes that a packed token leaves for the backward pass, and that this works with at its peak."""
    layers = shape.layers  # through which gradients go
    # Of a layer: its norms' inputs in float32; queries, keys, values and attention output; the feed-forward
    # block's two inner outputs and what its activation makes of one. Fused kernels keep a norm's input as it
    # is, and make the last again.
    norm, inner = (size, 2) if shape.fused else (4, 3)
    layer: float = 2 * norm * shape.width + size * (shape.attention + inner * shape.mlp)
    if config.train.adapter == "lora":
        lora = config.local_model.lora
        layers = min(layers, lora.last_layers or layers)
        numbers = shape.adapter_inputs(lora) + lora.rank * len(shape.adapted(lora))
        layer += size * numbers / layers
    else:  # each matrix has its input, in the dtype of computation
        layer += size * sum(a for sizes in shape.matrices.values() for a, _ in sizes) / layers
    # Gradients: of the widest matrix's input, its adapter's and their sum, of which fused kernels write one
    # in place; of hidden states around it.
    worked = size * ((2 if shape.fused else 3) * shape.mlp + 3 * shape.width)
    every = config.train.gradient_checkpointing
    if every is False:
        return layers * layer, worked
    # Of a share of the layers, the input is kept, and one layer is made again.
    share = 1 / (every if isinstance(every, int) else 1)
    return layers * (share * size * shape.width + (1 - share) * layer), layer + worked


def _number_bytes(config: JobConfig) -> int:
    """Bytes of a number as the model computes with it."""
    return 4 if config.local_model.precision == "float32" else 2


def trained_parameters(config: JobConfig, shape: Shape) -> int:
    """Parameters that are trained."""
    full = config.train.adapter == "full"
    return shape.linear + shape.other if full else shape.lora(config.local_model.lora)


def optimizer_bytes(config: JobConfig) -> int:
    """Of each parameter that is trained."""
    return 2 if config.train.optimizer == "paged_adamw_8bit" else 8
