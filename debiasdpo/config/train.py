"""Keys of `train=`."""

from typing import Literal

from debiasdpo.schema import Count, Fraction, Positive, Section


class TreeConfig(Section):
    """Keys of `train.tree`: how much is packed into one forward and backward pass."""

    max_tokens: Count  # packed tokens
    max_branches: Count  # different sequences; a pair has three


class TrainConfig(Section):
    """Keys of `train=`."""

    adapter: Literal["lora", "full"]
    nf4: bool  # what model.nf4 is set to unless told otherwise
    learning_rate: Positive
    epochs: Count  # passes over the pairs
    batch_pairs: Count  # pairs an optimiser step
    batch_documents: Count  # documents, at least, that these come from
    warmup: Fraction  # share of the steps over which the rate rises, from 0 in the first step
    schedule: Literal["constant", "linear", "cosine"]
    optimizer: Literal["adamw", "paged_adamw_8bit"]
    # Of all layers, of every so manieth, or where memory asks for it.
    gradient_checkpointing: bool | Count | Literal["auto"]
    engine: Literal["tree", "separate", "trl"]
    tree: TreeConfig  # with engine tree
    audit_every: Count  # steps between audits on the validation part
    save_every: Count  # steps between checkpoints
    target_reduction: Fraction  # of validation bias and bias / spread, where accuracy decides
