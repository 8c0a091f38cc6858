"""What looks like a secret is masked, and nothing else is."""

from pathlib import Path

from debiasdpo.redaction import MASK, redact


def test_redact() -> None:
    environ = {"HF_TOKEN": "hf-value-123\n", "GOOGLE_KEY": "12345678", "SHORT_TOKEN": "test"}
    environ |= {"TOKENIZERS_PARALLELISM": "parallel", "AWS_TOKEN_FILE": "/some/file"}
    config = {
        "api_key": "a",
        "hfToken": "b",
        "token": 5,
        "client_secret": "c",
        "db": {"PASSWORD": "d", "url": "postgres://me:pw@host/x", "pin": 12345678},
        "headers": ["Authorization: Bearer abcdefghijklmnop"],
        "overrides": ("model.api_key=xyz", "rate.max_tokens=5", "model.api_key=null"),
        "path": Path("/data/hf-value-123/x"),
        "serve": ["vllm", "serve", "--api-key", "e", "--max-tokens", "5"],
    }
    kept = {
        "api_key_env": "OPENAI_API_KEY",
        "max_new_tokens": 64,
        "max_tokens": 64,
        "tokenizer": "gpt2",
        "pad_token": "<pad>",
        "sort_key": "id",
        "split": "test",
        "mode": "parallel",
        "token_file": "/some/file",
        "auth_token": None,
        "use_auth_token": False,
        "text": "the passwords of old",
    }
    masked = redact(config | kept, environ)
    assert {key: masked[key] for key in kept} == kept
    assert {key: masked[key] for key in config} == {
        "api_key": MASK,
        "hfToken": MASK,
        "token": MASK,
        "client_secret": MASK,
        "db": {"PASSWORD": MASK, "url": f"postgres://me:{MASK}@host/x", "pin": MASK},
        "headers": [f"Authorization: Bearer {MASK}"],
        "overrides": [f"model.api_key={MASK}", "rate.max_tokens=5", "model.api_key=null"],
        "path": f"/data/{MASK}/x",
        "serve": ["vllm", "serve", "--api-key", MASK, "--max-tokens", "5"],
    }
    assert config["api_key"] == "a"  # the original stays
