"""The servers that an exchange asks: the first URL, the last redirect, and the proxy. Pure."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from updater.errors import Misconfigured
from updater.wire import urls
from updater.wire.text import one_line
from updater.wire.urls import shown


@dataclass(slots=True)
class Way:
    """The servers that an exchange asks, also in words."""

    first: str  # the URL of the request
    asked: str  # the URL of the last redirect
    proxy: str = ""  # as in the environment, "" for none

    def __str__(self) -> str:
        text = shown(self.first)
        if self.asked != self.first:
            text += f", redirected to {one_line(shown(self.asked).partition('?')[0], 200)}"  # a query may be a secret
        return f"{text}, through the proxy {urls.proxy_shown(self.proxy)}" if self.proxy else text

    def proxies(self) -> dict[str, str]:
        """The proxy in the form that requests takes, {} for none. Raises Misconfigured."""
        if not self.proxy:
            return {}
        usable = urls.proxy(self.proxy)
        if not usable:
            raise Misconfigured(
                f"{self}: the environment's proxy must be an http or https URL such as http://HOST:PORT"
            )
        return {urlsplit(self.asked).scheme: usable}
