"""Rate documents with the heads in head.safetensors. It needs torch, transformers and safetensors alone.

    rater = Rater("OWNER/BASE")           # or a folder; options go to from_pretrained
    rater.rate("clarity", "An essay.")    # points of the scale

rating = weight . h + bias, clipped to the scale; h: the base model's hidden states after some layers, one
behind the other, at the token before the level in its answer `Rating: k`.
"""

import json
import unicodedata
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent


def normal_text(text: str) -> str:
    """A document in the form in which the rater was asked about those that it was measured on."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
    return unicodedata.normalize("NFC", lines).strip()


class Rater:
    """A base model and the heads on it."""

    def __init__(self, base: str, **options: Any) -> None:
        self.asked = json.loads((HERE / "prompts.json").read_text(encoding="utf-8"))["rubrics"]
        with safe_open(HERE / "head.safetensors", framework="pt") as stored:
            heads = json.loads(stored.metadata()["heads"])
            self.heads = {
                name: {**about, "weight": stored.get_tensor(f"weight.{i}").double()}
                for i, (name, about) in enumerate(heads.items())
            }
        where = {k: v for k, v in options.items() if k in ("revision", "gguf_file")}
        self.tokenizer = AutoTokenizer.from_pretrained(base, **where)
        self.model = AutoModelForCausalLM.from_pretrained(base, **options).eval()

    def rate(self, rubric: str, document: str) -> float:
        """In points, not calibrated."""
        asked, head = self.asked[rubric], self.heads[rubric]
        text = asked["text"].replace("{document}", normal_text(document))
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"] + asked["before_level"]
        batch = torch.tensor([ids], device=self.model.device)
        with torch.no_grad():
            states = self.model(batch, output_hidden_states=True).hidden_states
        state = torch.cat([states[layer][0, -1].double().cpu() for layer in head["layers"]])
        rating = float(state @ head["weight"]) + float(head["bias"])
        return min(max(rating, float(asked["low"])), float(asked["high"]))
