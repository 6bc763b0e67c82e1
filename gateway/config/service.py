"""The door to apprise, which is imported when the first URL needs it, and never says that URL in a log."""

import logging
import warnings
from functools import lru_cache
from typing import Any


def service(url: str) -> Any:
    """apprise's object for a URL, None when it does not understand it. Sends nothing and touches no disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what apprise imports
        from apprise import Apprise, AppriseAsset

        log = logging.getLogger("apprise")
        log.propagate = False  # it says URLs; whoever sends looks at its records and covers them
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        asset = AppriseAsset(
            app_id="gateway", app_desc="AI gateway", app_url="", image_url_mask="", image_url_logo="", async_mode=False, plugin_paths=[]
        )  # no pictures from elsewhere
        return Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


@lru_cache(maxsize=256)
def understood(url: str) -> bool:
    """Whether apprise makes something of it."""
    return service(url) is not None
