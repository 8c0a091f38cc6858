"""GPU memory that a job takes at its peak, estimated from the model's shape."""

from debiasdpo.config.job import JobConfig
from debiasdpo.models.shape import Shape

_GPU_OVERHEAD = 1.5e9  # CUDA, kernels, and what the allocator cannot use
_LOGITS = 0.5e9  # the largest block of logits (docs/engine.md)


def peak_memory(config: JobConfig, largest_pass: int, shape: Shape) -> float:
    """Bytes at the peak of rating or of training: weights, what is trained, activations."""
    size = 4 if config.local_model.dtype == "float32" else 2
    in_4_bits = config.local_model.nf4 and config.train.adapter != "full"
    frozen = shape.linear * (0.52 if in_4_bits else size) + shape.other * size
    rating = frozen + shape.cache * size * largest_pass
    if not config.method.trains_weights:
        return rating + _LOGITS + _GPU_OVERHEAD
    trained = trained_parameters(config, shape)
    if config.train.adapter == "full":
        frozen = 0.0
    layers = shape.layers  # through which gradients go
    if config.train.adapter == "lora":
        layers = config.local_model.lora.last_layers or layers
    per_token = shape.working / shape.layers * layers
    if config.train.gradient_checkpointing:  # one layer at a time, and the inputs of all
        per_token = shape.working / shape.layers + layers * shape.width
    activations = per_token * size * min(largest_pass, config.train.tree.max_tokens)
    training = frozen + trained * (8 + optimizer_bytes(config)) + activations
    return max(rating, training) + _LOGITS + _GPU_OVERHEAD


def trained_parameters(config: JobConfig, shape: Shape) -> int:
    """Parameters that are trained."""
    full = config.train.adapter == "full"
    return shape.linear + shape.other if full else shape.lora(config.local_model.lora)


def optimizer_bytes(config: JobConfig) -> int:
    """Of each parameter that is trained."""
    return 2 if config.train.optimizer == "paged_adamw_8bit" else 8
