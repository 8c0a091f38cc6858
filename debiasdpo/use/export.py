"""debiasdpo export RUN --to FOLDER     a run's trained rater, for use elsewhere."""

import argparse
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from debiasdpo.cluster import surroundings
from debiasdpo.errors import UserError
from debiasdpo.evaluation.kept import nothing_kept
from debiasdpo.jobs.finished import open_run
from debiasdpo.storage.files import user_path, write_text
from debiasdpo.use import gguf
from debiasdpo.use.bases import base_of
from debiasdpo.use.card import model_card
from debiasdpo.use.command import parser, tell
from debiasdpo.use.forms import (
    as_served,
    files_of,
    form_of,
    modelfile,
    ollama_line,
    served_name,
    vllm_line,
    write_form,
)
from debiasdpo.use.raters import require_model


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, 1 if nothing was exported."""
    surroundings.prepare()
    options = _parser().parse_args(arguments)
    return tell(lambda: _export(options), "--to FOLDER")


def _export(options: argparse.Namespace) -> Iterator[str]:
    """Export; what there is to say of it."""
    to = user_path(options.to).absolute()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to: {to} is there already; give a new or an empty folder")
    if options.push and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", options.push):
        raise UserError(f"--push: {options.push!r} is not of the form ORGANISATION/NAME")
    run = open_run(options.run)
    form = form_of(run, merge=options.merge, dtype=options.dtype)
    if options.gguf:
        if form.kind != "model":
            raise UserError("--gguf: is of a whole model; add --merge")
        gguf.require_converter()
    require_model(run)
    form = as_served(run, form)
    base = base_of(run)
    to.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}."))
    try:
        write_form(run, base, form, made)
        form = form._replace(name=served_name(made))
        name = gguf.convert(made, str(form.dtype)) if options.gguf else None
        if form.kind != "head":
            write_text(made / "Modelfile", modelfile(run, base, form, name))
        write_text(made / "README.md", model_card(run, base, form, name))
        made.chmod(0o755)
        if to.exists():
            to.rmdir()
        made.rename(to)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    yield f"{to}: {', '.join(files_of(to))}"
    if same := nothing_kept(run.folder):
        yield f"note: {same}"
    if form.kind != "model":
        yield f"needs the base model: {base.needed}"
        if base.kind != "hub" and form.kind == "adapter":
            yield "with --merge, it needs nothing else"
    if form.kind != "head":
        yield vllm_line(run, base, form, str(to))
        yield f"cd {shlex.quote(str(to))} && {ollama_line(form)}"
    if options.push:
        yield _push(to, options.push)


def _push(folder: Path, repository: str) -> str:
    """Upload to the hub, as a private repository unless it is there already; returns its address."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="A rater exported by debiasdpo"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise UserError(
            f"--push: {repository} could not be uploaded ({str(error).splitlines()[0]}); {folder} is"
            " complete. Log in (hf auth login) with the right to write there, or upload it with: hf upload"
            f" {repository} {folder}"
        ) from error
    return str(address)


def _parser() -> argparse.ArgumentParser:
    found = parser(
        "export",
        "Write the trained rater of a finished run into a folder that others can load: an adapter, heads, or"
        " a whole\nmodel, with its prompts, a model card, and what Ollama and vLLM need.",
        "NAME --to rater",
        "NAME --to rater --merge --dtype bfloat16 --push ORG/NAME",
    )
    found.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="a folder that is new, or empty"
    )
    found.add_argument(
        "--merge", action="store_true", help="a whole model, with the adapter merged into its base"
    )
    found.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"),
        help="of a whole model's weights (default: the run's model.dtype)",
    )  # fmt: skip
    found.add_argument(
        "--gguf", action="store_true",
        help="also one GGUF file of a whole model, by llama.cpp's converter",
    )  # fmt: skip
    found.add_argument(
        "--push", metavar="ORG/NAME",
        help="also upload it to the Hugging Face hub; a new repository is private",
    )  # fmt: skip
    return found
