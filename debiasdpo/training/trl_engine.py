"""`train.engine=trl`: TRL's DPOTrainer computes the preference loss.

The other terms, the steps, checkpoints and audits are the same as with the other engines; so are tokens
and the log-probabilities of the reference, which TRL is handed. Written against TRL 1.16.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import huggingface_hub.constants
import torch
from peft import PeftModel
from transformers import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.utils import add_fused_lm_head

from debiasdpo.config.method import LossConfig
from debiasdpo.errors import UserError
from debiasdpo.models.chat import Chat
from debiasdpo.models.quiet import quiet
from debiasdpo.packing.logprobs import causal_model, separate_logprobs
from debiasdpo.training.data import TokenPair
from debiasdpo.training.objective import TERMS, PairTerms, weighted
from debiasdpo.training.ranking import Ranks
from debiasdpo.training.terms import Reference, pair_terms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What TRL's loss and its log look at.
_MEASURED = ("log_probs", "entropy", "mean_logits", "is_top1")


class _Preference(DPOTrainer):
    """For its loss alone: it neither prepares data nor trains."""

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Asked once, for the row that the constructor insists on; those of real ones are known."""
        return torch.zeros(1), torch.zeros(1)


class TrlTerms:
    """The terms of pairs, one forward pass of TRL's a pair; a `terms.Terms`."""

    def __init__(
        self,
        model: "PreTrainedModel",
        chat: Chat,
        reference: Reference,
        *,
        loss: LossConfig,
        folder: Path,
        bf16: bool,
    ) -> None:
        """Raises `UserError` for what TRL refuses to train."""
        self.reference, self.loss = reference, loss
        # TRL would report the kind of model and GPU to its makers.
        huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
        trained = {n: p.data for n, p in model.named_parameters() if p.requires_grad}
        padded = deepcopy(chat.tokenizer)  # TRL gives it a padding token
        if padded.eos_token_id is None:  # TRL ends the text of the one row with it
            padded.eos_token = padded.convert_ids_to_tokens(chat.end[-1])
        try:
            with quiet(), _no_bars():
                arguments = DPOConfig(
                    output_dir=str(folder),
                    beta=loss.beta,
                    loss_type=[loss.preference],
                    label_smoothing=loss.label_smoothing if loss.preference == "robust" else 0.0,
                    max_length=None,  # else longer pairs are dropped without a word
                    precompute_ref_log_probs=True,
                    disable_dropout=False,  # that of adapters is `model.lora.dropout`, and the model has none
                    router_aux_loss_coef=0.0,  # the other engines' objective has no balance of experts
                    activation_checkpointing=False,  # the trainer around this sees to it
                    use_cpu=model.device.type == "cpu",
                    bf16=bf16,
                    report_to=[],
                    disable_tqdm=True,
                )
                arguments.mixed_precision = "bf16" if bf16 else "no"  # as the trainer has it
                self.trl = _Preference(
                    model,
                    args=arguments,
                    train_dataset=datasets.Dataset.from_list(
                        [{"prompt": "", "chosen": "", "rejected": ""}]
                    ),
                    processing_class=padded,
                )
        except ValueError as error:
            raise UserError(f"train.engine: TRL refuses: {error}") from error
        # As the constructor has it, with logits in float32, as the other engines and the reference have them.
        add_fused_lm_head(causal_model(model), cast_lm_head_to_fp32=True, outputs=_MEASURED)
        self.trl.remove_callback(PrinterCallback)
        if isinstance(model, PeftModel):
            model.delete_adapter("ref")  # a copy that TRL makes for reference passes
        for name, values in trained.items():  # TRL turns adapters on 4-bit weights to bfloat16
            model.get_parameter(name).data = values
        self.collate = DataCollatorForPreference(pad_token_id=padded.pad_token_id)

    def __call__(
        self, model: torch.nn.Module, pairs: Sequence[TokenPair], ranks: Ranks
    ) -> PairTerms:
        """Shape (P,) each."""
        losses, margins = zip(*(self._preference(model, pair) for pair in pairs), strict=True)
        dpo = torch.stack(losses)
        dpo = dpo * dpo.new_tensor([pair.preference_weight for pair in pairs])
        terms = {"dpo": dpo}
        others = [replace(pair, preference=()) for pair in pairs]
        if others[0].completions or others[0].behind:
            left = {pair.key: self.reference[pair.key][2:] for pair in pairs}
            rest = pair_terms(
                model, others, ranks, reference=left, loss=self.loss, score=separate_logprobs
            )
            terms = {name: getattr(rest, name) for name in TERMS} | terms
        return weighted(self.loss, dpo.new_tensor(margins), terms)

    def _preference(self, model: torch.nn.Module, pair: TokenPair) -> tuple[torch.Tensor, float]:
        """Loss, a scalar, and reward margin."""
        chosen, rejected = pair.preference
        reference = self.reference[pair.key]
        batch = self.collate([{
            "prompt_ids": list(chosen.prompt),
            "chosen_ids": list(chosen.completion),
            "rejected_ids": list(rejected.completion),
            "ref_chosen_logps": reference[0],
            "ref_rejected_logps": reference[1],
        }])  # fmt: skip
        device = next(model.parameters()).device
        inputs = {name: values.to(device) for name, values in batch.items()}
        loss = self.trl.compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        measured: dict[str, float] = {}
        self.trl.log(measured)  # adds what TRL has measured since it was last asked
        self.trl.state.log_history.clear()
        return loss, measured["rewards/margins"]


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the progress bars of preparing one row."""
    hidden, before = datasets.are_progress_bars_disabled(), os.environ.get("TQDM_DISABLE")
    datasets.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
