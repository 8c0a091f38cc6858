"""Models of a hub: which commit a branch or tag is, and where it is loaded from."""

import functools
import re
from pathlib import Path

from debiasdpo.errors import UserError

_TIMEOUT_S = 10.0  # for the one request that tells whether a repository can be had

GET_A_MODEL = (
    "  - gated: accept its licence at https://huggingface.co/{0}, then `hf auth login` or set"
    " HF_TOKEN\n"
    "  - no network: download it where there is one (`hf download {0}`), copy the folder, and set"
    " model.path=/local/folder"
)


@functools.cache  # one process sees one state of a branch, however many jobs it runs
def commit_of(path: str, revision: str | None) -> str:
    """The commit that `revision` (None: main) of a repository is now: as the hub says, or, where it cannot
    be asked, as it was at the last download. `UserError` where neither is known."""
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    return _config_file(path, revision or "main")[0].parent.name


def hub_source(path: str, commit: str) -> tuple[str, str | None]:
    """What `from_pretrained` loads, and its `revision`: the repository at the commit, or, where the hub
    cannot be asked, the folder of that commit in the hub's cache."""
    file, online = _config_file(path, commit)
    return (path, commit) if online else (str(file.parent), None)


def hub_folder(path: str, commit: str) -> Path:
    """The folder in the hub's cache of what was downloaded of a repository at the commit."""
    return _config_file(path, commit)[0].parent


def _config_file(path: str, revision: str) -> tuple[Path, bool]:
    """The config.json in the hub's cache, in its commit's folder, and whether the hub was asked for it.

    One request without retries tells, since the hub's own client tries for 23 s a file to reach a
    network that is not there. Whatever it says, what was downloaded before can be used.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    url = hf_hub_url(path, "config.json", revision=revision)
    try:
        get_hf_file_metadata(url, timeout=_TIMEOUT_S)
        # Also notes in the cache which commit `revision` is, for when there is no network.
        return Path(hf_hub_download(path, "config.json", revision=revision)), True
    except Exception as error:
        cached = try_to_load_from_cache(path, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached), False
        reason = f"the hub cannot be reached ({str(error).splitlines()[0]})"
        if isinstance(error, hub.OfflineModeIsEnabled):
            reason = "HF_HUB_OFFLINE is set and it was not downloaded before"
        elif isinstance(error, hub.GatedRepoError):
            reason = "it is gated, and this machine has no access"
        elif isinstance(error, hub.RepositoryNotFoundError):
            reason = "the hub knows no such repository, or it is private"
        elif isinstance(error, hub.RevisionNotFoundError):
            reason = f"it has no revision {revision}"
        elif isinstance(error, hub.EntryNotFoundError):
            reason = "it has no config.json: not a transformers model"
        raise UserError(f"model.path: {path}: {reason}\n{GET_A_MODEL.format(path)}") from error
