"""Keys of `model=`: what rates. Local weights and the adapters on them, a model behind an endpoint, or a
Python function."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from debiasdpo.errors import UserError
from debiasdpo.schema import Count, Fraction, NonNegative, Positive, Section, Text

Device = Literal["auto", "cuda", "cpu"]  # `cluster.gpus`
Precision = Literal["bfloat16", "float32", "float16"]
Attention = Literal["auto", "dense", "segments", "flex"]  # `packing.tree_attention`


class LoraSettings(Section):
    """Keys of `model.lora`: delta W = alpha / rank * B A, beside the frozen weight W."""

    rank: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]  # 0 where results are compared exactly
    # Last parts of module names; "all-linear" is every linear layer but the output projection.
    targets: Annotated[Sequence[Text], Field(min_length=1)] | Literal["all-linear"]
    last_layers: Count | None = None  # only in the last so many layers, where gradients then stop


class ModelConfig(Section):
    """Keys of `model=` for weights on this machine, which can be trained."""

    kind: Literal["local"]
    path: Text  # hub id, local folder, local .gguf file, or package:NAME/FILE.gguf
    revision: Text | None  # of a hub repository: commit, tag or branch; None: main
    nf4: bool  # weights in 4 bits, double quantisation, computing in `dtype`
    dtype: Precision | Literal["auto"]  # of what is not in 4 bits; auto: see `jobs.precision`
    device: Device = (
        "auto"  # a GPU where there is one; what it cannot do is refused, not done on a CPU
    )
    attention: Attention  # how a packed prefix tree attends
    lora: LoraSettings
    max_length: Count  # tokens of prompt + completion

    @property
    def precision(self) -> Precision:
        """The dtype of a model that is to be loaded; `UserError` where nothing has settled auto."""
        if self.dtype == "auto":
            raise UserError("model.dtype: auto is for jobs; name bfloat16, float32 or float16")
        return self.dtype

    @property
    def adapts_head_in_16_bits(self) -> bool:
        """Whether adapters are on the output projection too, by its names in transformers, of a model that
        computes in 16 bits."""
        targets = () if isinstance(self.lora.targets, str) else self.lora.targets
        adapted = {target.rpartition(".")[2] for target in targets} & {"lm_head", "embed_out"}
        return bool(adapted) and self.precision != "float32"


class Prices(Section):
    """Keys of `model.prices`: US dollars for a million tokens."""

    input: NonNegative
    cached: (
        NonNegative | None
    )  # of the input, what the service has still in its cache; None: as input
    output: NonNegative  # reasoning that is not shown included


# Without a user, a password or parameters, which may be keys.
BASE_URL = r"^https?://[^\s@?]+$"


class EndpointConfig(Section):
    """Keys of `model=` for a model behind an OpenAI-compatible endpoint (`raters.endpoint`)."""

    kind: Literal["endpoint"]
    name: Text  # of the model, as the endpoint has it
    base_url: Annotated[str, Field(pattern=BASE_URL)]  # up to /v1
    api_key_env: Text | None  # environment variable with the key; None: none is needed
    serve: (
        Annotated[Sequence[Text], Field(min_length=1)] | None
    )  # command of a server; None: runs elsewhere
    adapter: Text | None  # folder of a LoRA adapter on the served model, which rates instead of it
    prefill: bool  # readout=expected: whether the endpoint goes on from a begun answer
    min_mass: Fraction  # readout=expected: of the probability, what all levels together must have
    extra_body: Mapping[str, Any]  # more parameters of each request
    batch: bool  # rated in batches (`raters.endpoint.batches`), for half the price
    concurrency: Count  # requests at once, at most
    timeout_s: Positive  # of one request
    prices: Prices | None  # None: as the package genai-prices has them


class CallableConfig(Section):
    """A Python function that rates (`raters.callable`), as `debiasdpo.audit` is given one."""

    kind: Literal["callable"]
    name: Text  # in tables and folder names
    version: Text  # of the function: the same name and version answer the same prompt alike


class SelfWriter(Section):
    """Keys of `writer=self`: the model writes in this process."""

    kind: Literal["self"]


AnyWriterConfig = Annotated[SelfWriter | EndpointConfig, Field(discriminator="kind")]

AnyModelConfig = Annotated[
    ModelConfig | EndpointConfig | CallableConfig, Field(discriminator="kind")
]
