"""Whether there is a W&B server to talk to, found out in bounded time and without a question asked."""

import http.client
import logging
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from debiasdpo.redaction import mask_known

if TYPE_CHECKING:
    from debiasdpo.config.tracker import TrackerConfig

logger = logging.getLogger(__name__)


def wants_online(config: "TrackerConfig", base_url: str, settings_key: str | None) -> bool:
    if config.mode == "offline" or os.environ.get("WANDB_MODE", "").lower() in (
        "offline",
        "dryrun",
    ):
        return False
    if not (settings_key or _key_configured(base_url)):
        # Without this check wandb.init would ask for a key at the terminal.
        if config.mode == "online":
            logger.warning(
                "tracker.mode=online, but no W&B key is configured for %s (WANDB_API_KEY or "
                "`wandb login`). Going on offline.",
                base_url,
            )
        return False
    problem = unreachable(base_url, config.timeout_s / 3)
    if problem:
        logger.warning("W&B at %s cannot be reached: %s. Going on offline.", base_url, problem)
    return problem is None


def _key_configured(base_url: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    path = next((p for f in files if f and (p := Path(f).expanduser()).is_file()), None)
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).netloc) if path else None
    except (netrc.NetrcParseError, OSError):
        return False
    return bool(entry and entry[2])


def unreachable(url: str, seconds: float) -> str | None:
    """Why no HTTP answer of any kind comes from `url` within `seconds`, or None if one does."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError, http.client.HTTPException) as error:
            # An unknown certificate is still an answer: W&B may know a certificate we do not.
            if not isinstance(getattr(error, "reason", None), ssl.SSLError):
                outcome.append(first_line(error))
                return
        outcome.append(None)

    # In a thread, since the timeout of a socket does not hold for looking up its name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:.3g} s"


def first_line(error: BaseException) -> str:
    return mask_known((str(error) or type(error).__name__).splitlines()[0])
