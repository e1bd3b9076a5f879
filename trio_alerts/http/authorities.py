"""Whose certificates TLS believes."""

import ssl
from pathlib import Path

import certifi

from trio_alerts.errors import SettingsError


def trusting(ca_file: str | Path | None) -> ssl.SSLContext:
    """Verify servers by the CAs in a PEM file, or by those of the system.

    Raises:
        SettingsError: The file cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"no CA certificates in {ca_file}: {error.strerror or error}") from error


def default_ssl_context() -> ssl.SSLContext:
    """Return what verifies receivers of HTTP."""
    context = trusting_all()
    context.set_alpn_protocols(["http/1.1"])
    return context


def trusting_all() -> ssl.SSLContext:
    """Trust the system's authorities (a company's own one lives there) and certifi's (a small image has no others)."""
    context = trusting(None)
    context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
