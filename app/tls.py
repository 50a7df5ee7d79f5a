"""The certificate that all four listeners show."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings import ServerSettings


@dataclass(frozen=True)
class Tls:
    """A certificate chain and its private key: as a context for HTTP, as PEM for gRPC."""

    context: ssl.SSLContext
    certificate: bytes
    key: bytes


def load_tls(settings: ServerSettings) -> Tls | None:
    """What the settings name; None when they name nothing. Raises CommandError when it cannot be used."""
    if not settings.tls_certificate or not settings.tls_key:
        return None
    certificate, key = _read(settings.tls_certificate, "tls_certificate"), _read(settings.tls_key, "tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would otherwise be asked for at the terminal.
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise CommandError(
            f"expected a certificate chain in PEM and its unencrypted private key, got {settings.tls_certificate} and "
            f"{settings.tls_key}, which are not that ({_reason(error)}): correct [server] tls_certificate and tls_key"
        ) from error
    return Tls(context, certificate, key)


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path} ([server] {name}): {(error.strerror or str(error)).lower()}") from error


def _reason(error: ssl.SSLError | ValueError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
