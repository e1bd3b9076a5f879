"""One OpenSearch node with its security plugin: TLS, users with passwords, and the roles of `deploy/opensearch/`."""

import re
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.support.servers.distribution import collections, security_plugin
from tests.support.servers.opensearch import SHORT_LIVED, OpenSearchServer
from tests.support.servers.places import give, link_tree
from tests.support.tls import TlsFiles

ROLES = Path(__file__).parents[3] / "deploy" / "opensearch"
PASSWORD = "a password"
HASH = "$2b$04$Mp0XmcgyP.Vty.DCjcoU.uI6EpVrvjzz6267tdqS/IQKHKKCwfAuu"  # of PASSWORD, by bcrypt
ADMIN = "admin"  # who may do all, for the tests

_CONFIG: dict[str, dict[str, Any]] = {
    "config": {
        "config": {
            "dynamic": {
                "http": {"anonymous_auth_enabled": False},
                "authc": {
                    "basic": {
                        "http_enabled": True,
                        "transport_enabled": True,
                        "order": 0,
                        "http_authenticator": {"type": "basic", "challenge": True},
                        "authentication_backend": {"type": "intern"},
                    }
                },
            }
        }
    },
    "audit": {
        "config": {
            "enabled": True,
            "audit": {
                "enable_rest": False,
                "disabled_transport_categories": ["AUTHENTICATED"],
                "ignore_users": [ADMIN],
                "resolve_bulk_requests": True,
                "log_request_body": False,
            },
        }
    },
    "action_groups": {},
    "tenants": {},
    "nodes_dn": {},
    "allowlist": {"config": {"enabled": False, "requests": {}}},
}


class SecuredOpenSearch(OpenSearchServer):
    """A node that knows the users of `deploy/opensearch/`, each with PASSWORD, and ADMIN.

    Args:
        version: "3.4.0" or "2.19.1".
        tls: The certificates.
    """

    def __init__(self, version: str, tls: TlsFiles, *, java_options: Sequence[str] = SHORT_LIVED) -> None:
        super().__init__(version, java_options=java_options, settings=_settings())
        self.name += " with its security plugin"
        self._tls = tls
        self._plugin = security_plugin(version)
        self.client_options = {"verify": ssl.create_default_context(cafile=tls.ca), "auth": (ADMIN, PASSWORD)}

    @property
    def url(self) -> str:  # type: ignore[override]
        """`https://`, without a user."""
        return f"https://localhost:{self.http_port}"

    def url_of(self, user: str) -> str:
        """`https://`, with a user and the password."""
        return f"https://{user}:{PASSWORD}@localhost:{self.http_port}".replace(" ", "%20")

    def prepare(self) -> None:
        """Make the folder with a distribution of its own, the plugin in it, and the plugin's configuration."""
        super().prepare()
        if self._home != self.folder / "home":
            link_tree(self._home, self.folder / "home")
            self._home = self.folder / "home"
        plugin = self._home / "plugins" / "opensearch-security"
        link_tree(self._plugin, plugin)
        descriptor = plugin / "plugin-descriptor.properties"
        text = descriptor.read_text()
        descriptor.unlink()  # it is linked to the one in the cache
        # The distribution for tests lacks the module for rules, of which the plugin needs nothing here but a library.
        descriptor.write_text(text.replace("rule-framework\n", "rule-framework;optional=true\n"))
        if not any(plugin.glob("commons-collections4-*.jar")):  # 2.19's has its own
            shutil.copy(collections(), plugin)
        config = self.folder / "config"
        key = load_pem_private_key(self._tls.key.read_bytes(), None)
        (config / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        shutil.copy(self._tls.cert, config / "cert.pem")
        shutil.copy(self._tls.ca, config / "ca.pem")
        (config / "opensearch-security").mkdir()
        for name, text in _security_files().items():
            (config / "opensearch-security" / f"{name}.yml").write_text(text)
        for path in config.rglob("*"):
            give(path, self.owner)

    def granted(self, user: str) -> set[str]:
        """Return the actions that a user was granted so far, by the audit log."""
        lines = (self.folder / "server.log").read_text(errors="replace").splitlines()
        found: set[str] = set()
        for line in lines:
            if '"audit_category":"GRANTED_PRIVILEGES"' in line and f'"audit_request_effective_user":"{user}"' in line:
                event: dict[str, Any] = msgspec.json.decode(line[line.index("{") :])
                found.add(event["audit_request_privilege"])
        return found


def _settings() -> dict[str, object]:
    files = {"pemcert_filepath": "cert.pem", "pemkey_filepath": "key.pem", "pemtrustedcas_filepath": "ca.pem"}
    tls = {
        f"plugins.security.ssl.{layer}.{name}": file for layer in ("transport", "http") for name, file in files.items()
    }
    return tls | {
        "plugins.security.ssl.transport.enforce_hostname_verification": False,
        "plugins.security.ssl.http.enabled": True,
        "plugins.security.allow_default_init_securityindex": True,
        "plugins.security.audit.type": "log4j",
        "plugins.security.restapi.roles_enabled": ["all_access"],
    }


def _security_files() -> dict[str, str]:
    """Return the plugin's files by name: the roles as they are shipped, the users with a password that is known."""
    files = {
        name: msgspec.json.encode({"_meta": {"type": name.replace("_", ""), "config_version": 2}, **content}).decode()
        for name, content in _CONFIG.items()
    }
    for name in ("roles", "roles_mapping", "internal_users"):
        files[name] = (ROLES / f"{name}.yml").read_text()
    files["internal_users"] = re.sub(r'hash: ".*"', f'hash: "{HASH}"', files["internal_users"])
    files["internal_users"] += f'{ADMIN}:\n  hash: "{HASH}"\n  backend_roles: ["admin"]\n'
    files["roles_mapping"] += 'all_access:\n  backend_roles: ["admin"]\n'
    return files
