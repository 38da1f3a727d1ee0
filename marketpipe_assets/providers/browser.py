"""Send a request as a browser does, for hosts that refuse the TLS fingerprint of other clients. Needs an extra."""

from importlib import import_module
from typing import Any

import httpx

from marketpipe_assets.providers.base import ProviderError

BROWSER = "chrome"
DECODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that speak of the body as it was sent, and not as it is handed on."""


class BrowserTransport(httpx.BaseTransport):
    """Answers to GET requests; method and address are what is asked for, every header is the browser's own.

    An answer is read whole, within the client's read timeout and within `answer_seconds`.
    """

    def __init__(self, answer_seconds: float, *, direct: bool) -> None:
        self._requests = _curl_cffi()
        proxies = {"all": ""} if direct else None  # an empty one is none; else libcurl reads the environment's
        self._session = self._requests.Session(impersonate=BROWSER, proxies=proxies, allow_redirects=False)
        self._answer_seconds = answer_seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        seconds = min(request.extensions["timeout"]["read"], self._answer_seconds)
        try:
            answer = self._session.request(request.method, str(request.url), timeout=seconds)
        except self._requests.RequestsError as error:
            fault = f"{type(error).__name__}: {error}"
        else:
            headers = [(name, text) for name, text in answer.headers.multi_items() if name.lower() not in DECODED]
            return httpx.Response(answer.status_code, headers=headers, content=answer.content)
        raise httpx.TransportError(fault)

    def close(self) -> None:
        self._session.close()


def _curl_cffi() -> Any:
    try:
        return import_module("curl_cffi.requests")
    except ModuleNotFoundError as error:
        fault = f"expected the extra yahoo to be installed: pip install 'marketpipe_assets[yahoo]'; {error}"
    raise ProviderError(fault)
