"""No secret reaches a file, a log or a tracker: mask whatever looks like one."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

MASK = "***"

# Shorter values of an environment variable are words like "none" or "test", not secrets.
SHORTEST_SECRET = 6

# Before "token" these name vocabulary (`pad_token`), not a credential.
_VOCABULARY = re.compile(
    "answer|begin|bos|cls|end|eos|first|image|label|last|mask|max|min|new|next|pad|per|rating|score"
    "|sep|space|special|start|stop|target|unk|vocab|word"
)

_ALWAYS_SECRET = re.compile("apikey|authorization|credentials?|passphrase|passwd|password|secrets?")

_KEY_OWNER = re.compile("access|anthropic|api|auth|azure|encryption|hf|openai|private|wandb")

# At the end these say that the value only names where the secret is: `api_key_env: OPENAI_API_KEY`.
_PLACE = re.compile("dir|env|file|name|path|var")

_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.-]*)=([^\s&,;\"']+)")

_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")

_KNOWN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[a-z]_\w{20,}|wandb_v\d_\w{20,}"
    r"|(?<=Bearer )[\w.~+/=-]{12,})"
)


def redact(
    mapping: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Copy `mapping` into plain dicts and lists with every secret masked.

    Masked are values whose key, or option of a command, names a secret (`api_key`, `--api-key`, `hf_token`,
    `password`, not `max_tokens`), the values of environment variables with such names wherever they occur,
    also inside longer text, `key=value` text with such a key, passwords in URLs and text shaped like a known
    provider's key. `environ` defaults to this process's environment.
    """
    secrets = secret_values(os.environ if environ is None else environ)
    return {key: _masked(value, str(key), secrets) for key, value in mapping.items()}


def _masked(value: object, key: str, secrets: Sequence[str]) -> object:
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _names_secret(key):
        return MASK
    if isinstance(value, Mapping):
        return {
            mask_text(inner, secrets) if isinstance(inner, str) else inner: _masked(
                item, str(inner), secrets
            )
            for inner, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        return [
            _masked(item, _option(before), secrets)
            for before, item in zip(["", *items], items, strict=False)
        ]
    if isinstance(value, str | Path):
        return mask_text(str(value), secrets)
    # YAML may have read a password of digits as a number.
    return MASK if str(value) in secrets else value


def _option(before: object) -> str:
    """What an item of a command is the value of, as of [vllm, serve, --api-key, VALUE]; else empty."""
    return before if isinstance(before, str) and re.fullmatch(r"--[\w-]+", before) else ""


def mask_text(text: str, secrets: Sequence[str]) -> str:
    """`text` with the given secrets, and whatever looks like one, masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _ASSIGNMENT.sub(
        lambda match: (
            f"{match[1]}={MASK}"
            if _names_secret(match[1]) and match[2].lower() not in ("null", "none", "true", "false")
            else match[0]
        ),
        text,
    )
    return _KNOWN_SHAPES.sub(MASK, _URL_PASSWORD.sub(rf"\1{MASK}@", text))


def mask_known(text: str) -> str:
    """`mask_text` with the secrets of this process's environment."""
    return mask_text(text, secret_values(os.environ))


class MaskingFormatter(logging.Formatter):
    """Of log lines, tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return mask_known(super().format(record))


def secret_values(environ: Mapping[str, str]) -> list[str]:
    """Values of environment variables whose names say that they are secret, longest first."""
    values = {
        value.strip()
        for name, value in environ.items()
        if _names_secret(name) or name.upper().endswith("_KEY")
    }
    # Longest first: a secret that holds another must not leave its rest behind.
    return sorted((v for v in values if len(v) >= SHORTEST_SECRET), key=len, reverse=True)


def _names_secret(key: str) -> bool:
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", key)]
    if not words or _PLACE.fullmatch(words[-1]):
        return False
    if any(_ALWAYS_SECRET.fullmatch(word) for word in words):
        return True
    before = words[-2] if len(words) > 1 else ""
    if words[-1].endswith("token"):
        return not _VOCABULARY.fullmatch(before)
    return words[-1] == "key" and _KEY_OWNER.fullmatch(before) is not None
