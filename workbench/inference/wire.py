"""The way to an endpoint: connections, keys and headers, and every way in which it is not there.

:mod:`workbench.inference.client` opens an :class:`OnlineWire`; :func:`check_reachable` looks before
a job starts whether there is somebody.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.inference.refusals import Body, read_refusal

if TYPE_CHECKING:
    import httpx2
    import openai

CHAT = "/chat/completions"
_CHECK_SECONDS = 10.0


class RawReply(NamedTuple):
    """What came back, whatever it is."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class NoReply(Exception):
    """Nothing came back.

    Attributes:
        reason: ``timeout``, ``connection``, or one of :data:`HOPELESS`.
        detail: What happened, in a few words.
        sent: Whether the request may have arrived.
    """

    def __init__(self, reason: str, detail: str = "", *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.sent = reason, detail, sent


HOPELESS = {
    "certificate": "set SSL_CERT_FILE to the file of your organization's root certificates",
    "unknown_host": "mend the host in 'base_url', or connect to its network",
    "no_batches": "leave 'batch' out of its block",
    "redirect": "mend 'base_url': it should lead to the server itself",
    "proxy": "unset {proxy}, or name the host in NO_PROXY",
}
"""Reason → how to mend what no further try can."""


class Wire(Protocol):
    """Something that brings the body of a request to an endpoint."""

    async def post(self, body: Body) -> RawReply:
        """Return the reply, an error too.

        Raises:
            NoReply: There is none.
        """


class OnlineWire:
    """Requests that are answered at once.

    The client makes no retries of its own.
    """

    def __init__(self, openai: openai.AsyncOpenAI, endpoint: Endpoint) -> None:
        self._openai, self._endpoint = openai, endpoint
        self._headers = omitted_headers(endpoint)

    async def post(self, body: Body) -> RawReply:
        """Return the reply to one request."""
        import httpx2
        import openai

        try:
            # By the client's own way for any path: the typed one walks through every request
            # and reply, which takes a fifth of the time, and takes bodies of any shape.
            reply = await self._openai.post(
                CHAT, cast_to=httpx2.Response, body=body, options={"headers": self._headers}
            )
        except openai.APITimeoutError:
            raise NoReply("timeout", f"after {self._endpoint.timeout:g} s", sent=True) from None
        except openai.APIStatusError as error:
            reply = error.response
        except openai.APIConnectionError as error:
            raise no_reply(error, self._endpoint) from None
        return RawReply(reply.status_code, reply.headers, reply.content)


class _OtherHost(Exception):
    """A server sends a request on to another one."""


def no_reply(error: BaseException, endpoint: Endpoint) -> NoReply:
    """Return why nothing came back, by the causes of an error."""
    cause: BaseException | None = error
    causes = []
    while cause is not None and cause not in causes:
        # What an event loop's library asks of itself on the way is no cause.
        if not isinstance(cause, RuntimeError):
            causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    causes = causes or [error]
    names = {type(one).__name__ for one in causes}
    words = " ".join(str(causes[-1] if str(causes[-1]) else causes[0]).split())
    words = endpoint.redacted(words)[:200]
    if names & {"_OtherHost", "TooManyRedirects"}:
        return NoReply("redirect", words)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in causes) or (
        "CERTIFICATE_VERIFY_FAILED" in words
    ):
        return NoReply("certificate", words)
    if "ProxyError" in names or (proxy_of(endpoint) and "ConnectError" in names):
        return NoReply("proxy", words)
    if any(isinstance(one, socket.gaierror) for one in causes):
        return NoReply("unknown_host", words)
    if names & {"TimeoutException", "ConnectTimeout", "ReadTimeout", "PoolTimeout"}:
        return NoReply("timeout", words, sent=True)
    return NoReply("connection", words or type(error).__name__, sent="ConnectError" not in names)


def proxy_of(endpoint: Endpoint) -> str:
    """Return the environment's variable whose proxy lies before an endpoint; empty without one."""
    import urllib.request

    if endpoint.loopback:
        return ""
    scheme, _, rest = endpoint.base_url.partition("://")
    if urllib.request.proxy_bypass(rest.partition("/")[0].partition(":")[0]):
        return ""
    names = (f"{scheme}_proxy", "all_proxy")
    return next((f"${one}" for n in names for one in (n, n.upper()) if os.environ.get(one)), "")


def no_answer_error(endpoint: Endpoint, reason: str, detail: str) -> UserError:
    """Return the error of an endpoint that cannot be reached, with how to mend it."""
    proxy = proxy_of(endpoint) or "the proxy's variables"
    words = {
        "certificate": f"its certificate is not trusted ({detail})",
        "unknown_host": f"the host's name is not known ({detail})",
        "proxy": f"the proxy of {proxy} lets nothing through ({detail})",
        "no_batches": f"takes no batches ({detail})",
        "redirect": f"sends requests on, and they are not taken there ({detail})",
        "timeout": f"does not answer ({detail})",
    }
    fix = HOPELESS.get(reason, "start the server or mend 'base_url'").format(
        proxy=proxy.lstrip("$")
    )
    if reason == "timeout":
        fix = "check the address and that the server is up, or raise 'timeout'"
    what = words.get(reason, f"nothing answers there ({detail})")
    return UserError(what, where=endpoint.base_url, fix=fix)


def _proxy_error(endpoint: Endpoint, error: Exception) -> UserError:
    return UserError(
        f"the proxy of {proxy_of(endpoint) or 'the environment'} cannot be used"
        f" ({endpoint.redacted(str(error))})",
        where=endpoint.base_url,
        fix=HOPELESS["proxy"].format(proxy=proxy_of(endpoint).lstrip("$") or "it"),
    )


def _address_error(endpoint: Endpoint) -> UserError:
    return UserError("is no address", where=endpoint.base_url, fix="mend 'base_url'")


async def _stays(response: httpx2.Response) -> None:
    """Refuse a redirect to another server: prompts and headers are meant for this one alone.

    Raises:
        _OtherHost: It leads away, or from https to http.
    """
    if not response.has_redirect_location:
        return
    here = response.request.url
    there = here.join(response.headers["location"])
    upgraded = (here.scheme, there.scheme) == ("http", "https") and not (here.port or there.port)
    same = (there.scheme, there.port) == (here.scheme, here.port)
    if there.host != here.host or not (same or upgraded):
        raise _OtherHost(f"to {there.scheme}://{there.netloc.decode()}, another host")


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Return the certificates that are trusted: reading them takes longer than most requests."""
    import httpx2

    return httpx2.create_ssl_context()


def omitted_headers(endpoint: Endpoint) -> dict[str, Any]:
    """Return what keeps openai's library from sending the key in its own way, beside Azure's."""
    from openai import Omit

    return {"Authorization": Omit()} if endpoint.api_version else {}


def open_client(endpoint: Endpoint) -> openai.AsyncOpenAI:
    """Return a client of openai's library, without retries of its own.

    Raises:
        UserError: The key or a header cannot be had, or a proxy needs a package that is not there.
    """
    from httpx2 import InvalidURL
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    headers = endpoint.sent_headers()
    try:
        # What the environment says of proxies is not meant for this machine's own loopback.
        pool = DefaultAsyncHttpxClient(
            trust_env=not endpoint.loopback, verify=_trusted(), event_hooks={"response": [_stays]}
        )
    except (ImportError, ValueError) as error:
        raise _proxy_error(endpoint, error) from None
    try:
        return AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key(),
            max_retries=0,  # retries are ours, since a body of another shape needs them as well
            timeout=endpoint.timeout,
            http_client=pool,
            default_headers=headers,
            default_query=endpoint.query,
        )
    except InvalidURL:
        raise _address_error(endpoint) from None


def check_reachable(endpoint: Endpoint) -> None:
    """Ask the endpoint for its models, so that a wrong address or key shows before a job starts.

    A key that may not list models is tried by a request without a question.

    Raises:
        UserError: Nothing answers there, or the key is refused. A server that does not list its
            models passes.
    """
    import httpx2

    headers = endpoint.sent_headers()
    try:
        with httpx2.Client(
            headers=headers,
            params=endpoint.query,
            timeout=_CHECK_SECONDS,
            verify=_trusted(),
            trust_env=not endpoint.loopback,
        ) as client:
            reply = client.get(f"{endpoint.base_url}/models")
            if reply.status_code in (401, 403):
                # No message is a mistake that costs nothing, and tells whether the key is good.
                asked = {"model": endpoint.model, "messages": []}
                reply = client.post(f"{endpoint.base_url}{CHAT}", json=asked)
    except httpx2.InvalidURL:
        raise _address_error(endpoint) from None
    except httpx2.TransportError as error:
        none = no_reply(error, endpoint)
        detail = f"within {_CHECK_SECONDS:.0f} s" if none.reason == "timeout" else none.detail
        raise no_answer_error(endpoint, none.reason, detail) from None
    except (ImportError, ValueError) as error:
        raise _proxy_error(endpoint, error) from None
    if reply.status_code in (401, 403):
        refusal = read_refusal(reply.status_code, reply.headers, reply.content)
        if refusal.kind == "auth":
            raise endpoint.refused(reply.status_code)
