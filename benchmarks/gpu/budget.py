"""python -m benchmarks.gpu.budget     whether the large parts of `make gpu` fit their limits, by their work.

Operations are those of the tokens that run, and bytes those that decoding reads. The seconds follow from what
an H100 is taken to do, which was not measured.
"""

from benchmarks import common
from benchmarks.common import table
from benchmarks.gpu import rating, training
from benchmarks.gpu.command import PARTS
from benchmarks.gpu.planned import trainer_bounds
from benchmarks.methods import separate_tokens, trees, whole_tokens
from benchmarks.models import ModelOptions, architecture
from debiasdpo.models.shape import Shape, shape_of
from debiasdpo.packing.logprobs import packed_tokens

START = 25  # seconds: imports, random weights, compiling
RATE = 250e12  # operations a second: a quarter of the data sheet's for bfloat16
READING = 2e12  # bytes a second, of 3.35e12
LAUNCH = 5e-6  # seconds in which the host starts a kernel
KERNELS = 1700  # of a decoding step


def training_operations(shape: Shape) -> float:
    """Two timed runs of each way, and one of the trees before. With checkpointing, the policy passes over its
    tokens three times: forward, forward again, and for the gradient of activations."""
    passes = 0
    first = training.cells(small=False)[0]
    for cell in training.cells(small=False):
        pairs = common.pairs(cell, 100_000)
        for group in trees(pairs, trainer_bounds()):
            reference = packed_tokens([c for p in group for c in p.preference])
            policy = packed_tokens([c for p in group for c in p.completions])
            passes += 3 * (reference + 3 * policy)
        if cell == first:
            for tokens in (separate_tokens, whole_tokens):
                passes += 2 * (tokens(pairs[0].preference) + 3 * tokens(pairs[0].completions))
    return 2.0 * shape.linear * passes


def rating_work(shape: Shape) -> tuple[float, float]:
    """Operations, and seconds of decoding. The tree runs twice, the forest twice with a graph and twice
    without; transformers reads each prompt whole, once to rate and once to write."""
    sizes = rating.SIZES
    rows = sizes.rubrics * sizes.contexts
    tree = sizes.prefix + sizes.rubrics * sizes.rubric_tokens + rows * sizes.context_tokens
    whole = rows * (sizes.prefix + sizes.rubric_tokens + sizes.context_tokens)
    read = 2 * (shape.linear + shape.cache * tree) / READING
    started = max(read, KERNELS * LAUNCH)
    decoding = rating.TOKENS * (2 * read + 3 * started)
    return 2.0 * shape.linear * (6 * tree + 2 * whole), decoding


def rows() -> list[tuple[str, float, float, int]]:
    """Of each part: its work, the seconds expected, and its limit."""
    shapes = {n: shape_of(architecture(ModelOptions(n))) for n in ("llama8b", "qwen7b")}
    works = {n: (training_operations(shape), 0.0) for n, shape in shapes.items()}
    works["rating"] = rating_work(shapes["llama8b"])
    return [
        (name, done / 1e15, START + done / RATE + decoding, PARTS[name].seconds)
        for name, (done, decoding) in works.items()
    ]


def main() -> None:
    print(table(["part", "PFLOP", "seconds expected", "limit, s"], rows()))


if __name__ == "__main__":
    main()
