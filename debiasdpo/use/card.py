"""The model card of an export: what it is, its data, method and figures, and its limits."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from debiasdpo.config.context import PLACEBO
from debiasdpo.config.job import JobConfig
from debiasdpo.config.sameness import normal_text
from debiasdpo.config.shown import joined, points
from debiasdpo.documents.corpus import SPLIT, rubrics_of
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.jobs.finished import Run
from debiasdpo.storage.files import read_json
from debiasdpo.use.bases import Base
from debiasdpo.use.forms import DATED, TEMPLATE, Form, ollama_line, vllm_line

_KINDS = {
    "adapter": "This is a LoRA adapter",
    "model": "This is a whole model",
    "head": "These are heads for a frozen model's hidden states",
}
_RELATION = {"adapter": "adapter", "model": "finetune", "head": "adapter"}

_EXPECTED = '''
def rate(rubric, document):
    """The mean of the levels by their probabilities, after `Rating: `."""
    asked = prompts["rubrics"][rubric]
    text = asked["text"].replace("{document}", normal_text(document))
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    scores = []
    for answer in asked["levels"].values():
        ids = torch.tensor([prompt + answer], device=model.device)
        with torch.no_grad():
            logprobs = model(ids).logits[0].float().log_softmax(-1)
        scores.append(sum(logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(answer)))
    shares = torch.tensor(scores).double().softmax(0)
    return float(shares @ torch.tensor([float(level) for level in asked["levels"]]).double())
'''
_TEXT = '''
def rate(rubric, document):
    """What the model writes; its rating stands after `Rating: `. DRAWN"""
    text = prompts["rubrics"][rubric]["text"].replace("{document}", normal_text(document))
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.no_grad():
        found = model.generate(
            **ids, DECODING, repetition_penalty=1.0, no_repeat_ngram_size=0,
            max_new_tokens=prompts["rate"]["max_new_tokens"], eos_token_id=prompts["stop"],
        )  # whatever the base model has in its generation_config.json, which the run did not heed
    return tokenizer.decode(found[0, ids["input_ids"].shape[1]:], skip_special_tokens=True)
'''


def model_card(run: Run, base: Base, form: Form, gguf: str | None) -> str:
    """README.md of the folder."""
    return "\n".join(_lines(run, base, form, gguf)).rstrip() + "\n"


def _lines(run: Run, base: Base, form: Form, gguf: str | None) -> Iterator[str]:
    config = run.config
    trained = (
        "was trained to rate them alike whether or not an irrelevant statement of these kinds comes along:"
        f" {joined(shown, by=', ')}"
        if (shown := _shown(config))
        else "was trained on experts' scores alone, and saw no irrelevant statement in training"
    )
    yield from ("---", _head(base, form), "---", "")
    yield from (f"# A rater trained against bias toward spurious context: {base.name}", "")
    yield (
        f"{_KINDS[form.kind]}{' (base and adapter merged)' if form.merged else ''}, made by debiasdpo"
        f" {run.versions['debiasdpo']}. It rates documents on the rubrics below, and {trained}."
    )
    if same := nothing_kept(run.folder):
        yield from ("", f"**{same}**")
    yield from ("", "## Base model and licence", "")
    yield f"Base: {base.needed}." + (
        "" if form.kind == "model" else " It is needed beside these files."
    )
    if form.kind == "model":
        yield "Its weights are in this folder; nothing else is needed."
    if config.local_model.nf4:
        yield (
            "It was trained and measured with the base model's weights in 4 bits (NF4),"
            f" {'as the Python below loads them' if _in_4_bits(run, base, form) else 'which these are not'}."
            " With unquantised weights ratings are others, and the figures below do not tell them."
        )
    yield (
        f"Licence of the base model: {base.licence}. What is made from it falls under it."
        if base.licence
        else "Licence of the base model: not said by its files. Look it up before you share these: what"
        " is made from it falls under it."
    )
    yield from ("", "## Data", "")
    yield from _data(run)
    yield from ("", "## Method", "")
    yield from _method(run)
    yield from ("", "## Figures", "")
    split = read_json(run.folder / "documents" / SPLIT)
    yield (
        f"On {split['documents']['test']} held-out documents of {len(split['groups']['test'])} groups,"
        " and on wordings of the statements that were never trained on; 95 % intervals over groups."
        " *base*: before training; *tuned*: this rater. Bias is the mean size of the shift, in points,"
        " that a statement makes; the placebo says nothing about people."
    )
    said = [run.folder / name for name in ("verdict.txt", "table.txt")]
    for file in filter(Path.exists, said):  # runs of earlier versions have no verdict
        yield from ("", "```", file.read_text(encoding="utf-8").strip("\n"), "```")
    yield from ("", "## Limits", "")
    yield from _limits(run)
    yield from ("", "## Use", "")
    yield from _use(run, base, form, gguf)


def _head(base: Base, form: Form) -> str:
    about: dict[str, object] = {}
    if base.kind == "hub":
        about = {"base_model": base.name, "base_model_relation": _RELATION[form.kind]}
    if base.licence:
        about["license"] = base.licence
    library = "peft" if form.kind == "adapter" else "transformers"
    about |= {"library_name": library, "tags": ["debiasdpo", "llm-as-a-judge", "bias"]}
    return yaml.safe_dump(about, sort_keys=False, allow_unicode=True).rstrip()


def _shown(config: JobConfig) -> Sequence[str]:
    """The categories of the statements that training showed."""
    return config.context.train_categories if config.method.sees_statements else ()


def _data(run: Run) -> Iterator[str]:
    split = read_json(run.folder / "documents" / SPLIT)
    parts = ", ".join(
        f"{count} documents of {len(split['groups'][part])} groups ({part})"
        for part, count in split["documents"].items()
    )
    yield f"Corpus: `{run.config.documents.source}`, split by group: {parts}."
    for name, sha256 in run.versions["data"]:
        yield f"File: {name} (SHA-256 {sha256})."
    yield ""
    for name, rubric in rubrics_of(run.config.documents).items():
        step = "" if rubric.step == 1 else f", in steps of {points(rubric.step)}"
        scale = f"{points(rubric.low)} to {points(rubric.high)}{step}"
        yield f"- **{name}**, {scale}: {' '.join(rubric.question.split())}"


def _method(run: Run) -> Iterator[str]:
    config, lora = run.config, run.config.local_model.lora
    terms = ", ".join(config.method.terms) or "ridge regression on hidden states"
    yield (
        f"`method={config.method.name}` ({terms}), seed {config.seed}. Trained on the statement categories:"
        f" {joined(_shown(config), by=', ', nothing='none')}; audited on"
        f" {joined(config.audit_categories, by=', ')}. Ratings are read by"
        f" `rate.readout={config.rate.readout}`."
    )
    if config.method.trains_weights:
        what = (
            "all weights"
            if config.train.adapter == "full"
            else f"LoRA of rank {lora.rank}, alpha {lora.alpha}"
        )
        yield (
            f"{what[0].upper()}{what[1:]}; learning rate {config.train.learning_rate:g},"
            f" {config.train.epochs} epoch(s), {config.train.batch_pairs} pairs a step."
        )
    yield (
        "Debiasing-DPO and its evaluation: Nam & Demszky, *Mitigating LLM biases toward spurious social"
        " contexts using direct preference optimization*, arXiv 2604.02585."
    )


def _limits(run: Run) -> Iterator[str]:
    metrics = run.metrics
    yield "- One training of one seed: another may end elsewhere. Intervals are about other documents alone."
    yield "- Less bias is not none: see the figures, and whether the placebo moves the ratings as far."
    yield (
        "- Where the spread of the ratings fell with the bias, the rater merely says less; *relative"
        " bias* is free of that."
    )
    shown = _shown(run.config)
    unseen = joined([c for c in run.config.audit_categories if c not in (*shown, PLACEBO)], by=", ")
    yield f"- Categories that were not trained on ({unseen}) may be as strong as before: see their rows."
    yield "- Other kinds of documents, other rubrics and other prompts than those here were not measured."
    if (metrics.get("parse_rate/tuned") or 0) < 1:
        yield f"- {1 - metrics['parse_rate/tuned']:.1%} of its replies held no rating that could be read."
    yield "- It is no ground for a decision about a person without somebody who reads the document."


def _use(run: Run, base: Base, form: Form, gguf: str | None) -> Iterator[str]:
    expected = run.config.rate.readout == "expected"
    yield from ("```python", *_loading(run, base, form))
    if form.kind != "head":
        yield from ("", inspect.getsource(normal_text))
        yield (_EXPECTED if expected else _text(run)).rstrip()
    yield from ("```", "")
    yield (
        "`prompts.json` has the prompt of each rubric, as messages and as the text that the chat template"
        " makes of them, with `{document}` where the document stands. Figures are of these prompts, with"
        " documents that have no white space around them, lines that end in LF, and composed accents (NFC)."
    )
    if run.config.rate.calibration != "none":
        yield (
            "The figures are of calibrated ratings: `calibration.json` has knots for each rubric, between"
            " which `numpy.interp(rating, ratings, scores)` maps what `rate` returns."
        )
    if form.kind == "head":
        return
    folder = "." if form.kind == "model" else "FOLDER"
    yield from (
        "",
        "```sh",
        vllm_line(run, base, form, folder),
        ollama_line(form),
        "```",
        "",
        "The name is of these files. debiasdpo, as other caches of replies, finds a reply again by the name"
        " that was asked: so keep it, and serve another rater under another.",
        "",
    )
    if form.dated:
        where = "the tokenizer's files have it" if form.kind == "model" else f"`{TEMPLATE}` has it"
        yield f"{DATED} With another day each prompt is another one: {where} with that date.\n"
    if form.kind == "adapter" and not expected:
        yield (
            "vLLM stops where the base model's own files say, and this rater where its turn ends: send"
            f' `"stop_token_ids": {list(form.stop)}` with each request.\n'
        )
    if gguf:
        yield f"`{gguf}` is the same model for llama.cpp and what is built on it.\n"
    if expected:
        yield (
            "A server's reply is one level, the likeliest; the rater measured here is the mean over all"
            " levels, for which a server has to give log-probabilities of whole answers."
        )


def _text(run: Run) -> str:
    """`_TEXT` as the run decodes."""
    rate = run.config.rate
    drawn, decoding = "Always the same.", "do_sample=False"
    if rate.draws:
        drawn = "Drawn anew each time, as in the run."
        decoding = f"do_sample=True, temperature={rate.temperature}, top_p={rate.top_p}, top_k=0, min_p=0.0"
    return _TEXT.replace("DRAWN", drawn).replace("DECODING", decoding)


def _in_4_bits(run: Run, base: Base, form: Form) -> bool:
    """Whether the card's Python loads the base model quantised, as the run did; transformers does not do
    that to what a GGUF file holds."""
    return run.config.local_model.nf4 and form.kind != "model" and base.kind != "gguf"


def _loading(run: Run, base: Base, form: Form) -> Iterator[str]:
    """Python that loads it, from within the folder."""
    precision = run.config.local_model.precision
    loading, quantiser, nf4 = f'{base.loading}, dtype="{precision}"', [], []
    if _in_4_bits(run, base, form):
        loading, quantiser = f"{loading}, quantization_config=nf4", ["BitsAndBytesConfig"]
        nf4 = [
            "nf4 = BitsAndBytesConfig(",
            '    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,',
            f'    bnb_4bit_compute_dtype="{precision}",',
            ")",
        ]
    if form.kind == "head":
        yield "from rate_with_head import Rater  # in this folder"
        yield from [f"from transformers import {name}" for name in quantiser]
        yield from ("", *nf4, f"rater = Rater({loading})", "rate = rater.rate")
        return
    yield from ("import json", "import unicodedata", "", "import torch")
    yield from ["from peft import PeftModel"] if form.kind == "adapter" else []
    names = ", ".join(["AutoModelForCausalLM", "AutoTokenizer", *quantiser])
    yield from (f"from transformers import {names}", "")
    yield 'prompts = json.load(open("prompts.json", encoding="utf-8"))'
    if form.kind == "adapter":
        yield from nf4
        yield f"tokenizer = AutoTokenizer.from_pretrained({base.loading})"
        yield f"model = AutoModelForCausalLM.from_pretrained({loading})"
        yield 'model = PeftModel.from_pretrained(model, ".").eval()'
    else:
        yield 'tokenizer = AutoTokenizer.from_pretrained(".")'
        yield f'model = AutoModelForCausalLM.from_pretrained(".", dtype="{form.dtype}").eval()'
