"""The proxy that the environment puts between this machine and a host, named where a connection fails: the library's
error then says what happened to the proxy as if it had happened to the host."""

from __future__ import annotations

import urllib.parse
import urllib.request


def between(url: str) -> str:
    """The proxy of the environment for this address, without its password; "" where there is none.

    >>> import os; before = dict(os.environ)
    >>> os.environ.update(HTTPS_PROXY="http://me:secret@10.0.0.1:3128", NO_PROXY="near.example")
    >>> between("https://far.example:8000"), between("https://near.example")
    ('http://10.0.0.1:3128', '')
    >>> os.environ.clear(); os.environ.update(before)
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    found = urllib.request.getproxies_environment()
    proxy = found.get(parts.scheme) or found.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(host):
        return ""
    told = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"{told.scheme}://{told.netloc.rpartition('@')[2]}"


def said(url: str) -> str:
    """What an error says of the proxy: the way, and how to go without; "" where there is none."""
    proxy = between(url)
    if not proxy:
        return ""
    host = urllib.parse.urlsplit(url).hostname
    return f" The way there is the proxy {proxy} (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY); without: NO_PROXY={host}"
