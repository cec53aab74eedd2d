"""Refuse and write down every attempt of a Python process to leave this machine; on PYTHONPATH, Python imports it.

An audit hook sees the calls that the `socket` module makes, whatever library they come from, in every process that
inherits PYTHONPATH. Each attempt is a line in the file ATTEMPTS.
"""

import os
import socket
import sys

LOCAL = {"", "localhost", "127.0.0.1", "0.0.0.0", "::1", "::", socket.gethostname()}


def refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""  # a path is a socket of this machine
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or ""
    else:
        return
    if host not in LOCAL:
        with open(os.environ["ATTEMPTS"], "a") as attempts:
            attempts.write(f"{event} {host} {' '.join(sys.orig_argv)}\n")
        raise OSError(f"{host} is not this machine")


sys.addaudithook(refuse)
