"""The forms in which a run's trained rater leaves for elsewhere, and the files of each."""

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from debiasdpo.config.model import ModelConfig, Precision
from debiasdpo.config.shown import points
from debiasdpo.documents import trained
from debiasdpo.documents.base import Document
from debiasdpo.documents.corpus import open_corpus, rubrics_of
from debiasdpo.errors import UserError
from debiasdpo.jobs.finished import Run
from debiasdpo.jobs.identity import cache_folder
from debiasdpo.jobs.trained import marks_of_training
from debiasdpo.models.adapters import load_adapter, merge_adapter
from debiasdpo.models.loading import load_chat, load_model, load_stop
from debiasdpo.models.template import IDENTITY, SILENT
from debiasdpo.prompts.rendering import render
from debiasdpo.raters.head import FILE as HEAD
from debiasdpo.stages.asked import style
from debiasdpo.storage.files import digest, fingerprint, read_json, write_json, write_text
from debiasdpo.use.bases import Base

PROMPTS, CALIBRATION, LOADER = "prompts.json", "calibration.json", "rate_with_head.py"
TEMPLATE = "chat_template.jinja"  # as transformers calls it
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM takes
_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


DATED = f"The chat template writes a date, which in the run was always {IDENTITY['date']}."


class Form(NamedTuple):
    """What is exported."""

    kind: Literal["adapter", "model", "head"]  # model: all weights, trained or merged
    merged: bool  # an adapter into its base
    dtype: Precision | None  # of all weights; an adapter and a head have their own
    silent: bool = False  # a server has to tell it not to think (`as_served`)
    # Its chat template writes a date, which a server has to be told (`as_served`).
    dated: bool = False
    # The tokens at which it stops writing, with their texts, of which a model's own settings may lack the end
    # of its turn (`as_served`). A head writes nothing.
    stop: Mapping[int, str] = MappingProxyType({})
    name: str = "rater"  # that a server gives it (`served_name`)


def form_of(run: Run, *, merge: bool, dtype: Precision | None) -> Form:
    """What this run has to export. `UserError` where that is nothing, or not what was asked for."""
    method, train = run.config.method, run.config.train
    if not isinstance(run.config.model, ModelConfig):
        raise UserError(
            f"{run.folder}: no local weights rated it, so that there are none to export"
        )
    if not method.trains:
        how = (
            "only changed the prompts, which are in its config.yaml and its ratings"
            if method.changes_prompts
            else "trained nothing"
        )
        raise UserError(f"{run.folder}: method={method.name} {how}; use the base model as it is")
    head, whole = not method.trains_weights, train.adapter == "full"
    if merge and (head or whole):
        what = "a head stays beside its base model" if head else "all weights were trained"
        raise UserError(f"--merge: there is no adapter to merge: {what}; leave it out")
    if dtype and not (merge or (whole and not head)):
        raise UserError("--dtype: is of whole models; add --merge, or leave it out")
    if head:
        return Form("head", False, None)
    if merge or whole:
        return Form("model", merge, dtype or run.config.local_model.precision)
    return Form("adapter", False, None)


def as_served(run: Run, form: Form) -> Form:
    """With what a server has to be told: not to think, where the model would before it answers, and in this
    run may not; the date, where its chat template writes today's; and where it stops."""
    config, cache = run.config, cache_folder(run.config)
    chat = load_chat(config.local_model, cache)
    silent = not config.rate.thinks and chat.template.thinks
    stop = {}
    if form.kind != "head":
        ends = sorted(load_stop(chat, config.local_model, cache))
        stop = {end: str(chat.tokenizer.decode([end])) for end in ends}
    return form._replace(silent=silent, dated=chat.template.dated, stop=stop)


def write_form(run: Run, base: Base, form: Form, to: Path) -> None:
    """Weights, tokenizer and how to ask, into the folder."""
    weights = run.weights
    assert weights is not None
    if form.kind == "adapter":
        _write_adapter(weights, base, to)
        if form.dated:
            template = load_chat(run.config.local_model, cache_folder(run.config)).template
            write_text(to / TEMPLATE, template.used)
    elif form.kind == "head":
        shutil.copyfile(weights / HEAD, to / HEAD)
        shutil.copyfile(Path(__file__).with_name("head_loader.py"), to / LOADER)
    else:
        _write_model(run, weights, form, to)
    corpus = open_corpus(run.folder / "documents", rubrics_of(run.config.documents))
    trained.keep(corpus.parts, marks_of_training(run.config), to)
    write_json(to / PROMPTS, _asked(run, form))
    if run.config.rate.calibration != "none":
        shutil.copyfile(run.folder / "calibration_tuned.json", to / CALIBRATION)


def _write_adapter(weights: Path, base: Base, to: Path) -> None:
    """The adapter, naming its base as anybody can have it. peft loads that by `revision`, too."""
    for name in _ADAPTER:
        shutil.copyfile(weights / name, to / name)
    settings = read_json(to / "adapter_config.json")
    settings |= {"base_model_name_or_path": base.name, "revision": base.revision}
    write_json(to / "adapter_config.json", settings)


def _write_model(run: Run, weights: Path, form: Form, to: Path) -> None:
    """All weights in one model that transformers loads, never in 4 bits, with tokenizer and chat template."""
    assert form.dtype is not None
    changes: dict[str, Any] = {"nf4": False, "dtype": form.dtype}
    if not form.merged:
        changes |= {"path": str(weights), "revision": None}
    config = run.config.local_model.model_copy(update=changes)
    model: Any
    model, chat = load_model(config, cache_folder(run.config))
    if form.merged:
        model = merge_adapter(load_adapter(model, weights))
    model.generation_config.eos_token_id = list(form.stop)
    model.save_pretrained(to)
    if form.dated:
        chat.tokenizer.chat_template = chat.template.used
    chat.tokenizer.save_pretrained(to)


def _asked(run: Run, form: Form) -> dict[str, Any]:
    """How the run asks its rater: of each rubric the messages and the text that the chat template makes of
    them, with {document} in place of the document, and the token ids of each level's answer."""
    config, head = run.config, form.kind == "head"
    chat = load_chat(config.local_model, cache_folder(config))
    blank = Document("", "", "{document}", {})
    rubrics = {}
    for name, rubric in rubrics_of(config.documents).items():
        messages = render(style(config), blank, name, rubric).messages
        scale = rubric.scale
        ids: dict[str, Any] = {"before_level": chat.before_level(scale)} if head else {}
        if config.rate.readout == "expected" and not head:
            levels = zip(scale.levels, chat.level_ids(scale), strict=True)
            ids = {"levels": {points(level): found for level, found in levels}}
        rubrics[name] = {
            "question": rubric.question.strip(),
            "low": rubric.low,
            "high": rubric.high,
            "step": rubric.step,
            "messages": messages,
            "text": chat.template.render(list(messages), thinking=config.rate.thinks),
            **ids,
        }
    stop = {} if head else {"stop": list(form.stop)}
    return {"rate": config.rate.model_dump(mode="json"), **stop, "rubrics": rubrics}


def served_name(folder: Path) -> str:
    """By the files that `write_form` left in the folder: replies are kept by the name that was asked, so that
    a rater that was trained anew must not be served under the name of the one before it."""
    files = {name: digest(folder / name) for name in files_of(folder)}
    return f"rater-{fingerprint(files)}"


def modelfile(run: Run, base: Base, form: Form, gguf: str | None) -> str:
    """For `ollama_line`, in the folder."""
    model, rate = run.config.local_model, run.config.rate
    lines = [f"FROM ./{gguf}" if gguf else "FROM ."]
    if form.kind == "adapter":
        lines = [
            f"# FROM must be {base.needed}: by Ollama's name for it, or as a folder or GGUF file.",
            f"FROM {base.name}",
            "ADAPTER .",
        ]
    if form.dated:
        lines.insert(
            0,
            f"# {DATED} Ollama has a template of its own for this model: see that it writes that.",
        )
    if form.silent:
        lines.insert(
            0, '# The run\'s rater did not think first: send "think": false with each request.'
        )
    lines += [
        f"PARAMETER temperature {points(rate.temperature or 0.0)}",
        f"PARAMETER top_p {points(rate.top_p)}",
        "PARAMETER top_k 0",  # Ollama draws from 40 tokens, and penalises repetition, unless told
        "PARAMETER repeat_penalty 1",
        f"PARAMETER num_ctx {model.max_length}",
        f"PARAMETER num_predict {rate.max_new_tokens}",
        *(
            f"PARAMETER stop {json.dumps(text, ensure_ascii=False)}"
            for text in form.stop.values()
            if text.strip()
        ),
        f"# {ollama_line(form)}",
    ]
    return "\n".join(lines) + "\n"


def ollama_line(form: Form) -> str:
    """The command that makes it a model of Ollama's, in the folder."""
    return f"ollama create {form.name} -f Modelfile"


def vllm_line(run: Run, base: Base, form: Form, folder: str) -> str:
    """The command that serves it by vLLM, with the interface of OpenAI."""
    model = run.config.local_model
    options = f"--max-model-len {model.max_length}"
    if form.silent:
        options += f" --default-chat-template-kwargs '{json.dumps(SILENT)}'"
    if form.kind == "model":
        where = shlex.quote(folder)
        return f"vllm serve {where} --served-model-name {form.name} --dtype {form.dtype} {options}"
    rank = next((r for r in _LORA_RANKS if r >= model.lora.rank), model.lora.rank)
    source = f"{base.name} --revision {base.revision}" if base.kind == "hub" else "PATH/TO/THE/BASE"
    if form.dated:
        options += f" --chat-template {shlex.quote(f'{folder}/{TEMPLATE}')}"
    adapter = shlex.quote(f"{form.name}={folder}")
    lora = f"--enable-lora --lora-modules {adapter} --max-lora-rank {rank}"
    # The base model's own settings would hold, such as Qwen2.5's penalty of repetition.
    decoding = """--override-generation-config '{"repetition_penalty": 1.0}'"""
    return f"vllm serve {source} --dtype {model.dtype} {lora} {options} {decoding}"


def files_of(folder: Path) -> Sequence[str]:
    """What was exported."""
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
