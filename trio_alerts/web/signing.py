"""What the console signs, so that it need not remember it: sessions, and the tokens of forms."""

import hashlib
import secrets

from itsdangerous import BadData, URLSafeTimedSerializer

from trio_alerts.secret import Secret

LASTS_S = 12 * 3600  # a session, and a form that lies open: one shift


class Signatures:
    """Makes and checks what is signed.

    The key is made from `console_token`: a changed token ends every session, and several consoles with one token know
    each other's. Without a token it is drawn at start, and a form that was opened before a restart is refused.
    """

    def __init__(self, token: Secret | None) -> None:
        key = secrets.token_hex(32) if token is None else token.reveal()
        self._sessions, self._forms = _serializer(key, "session"), _serializer(key, "form")

    def new_session(self) -> str:
        """Return the value of a new session's cookie."""
        return self._sessions.dumps(secrets.token_hex(16))

    def session_of(self, cookie: str) -> str | None:
        """Return which session a cookie is of; None if we did not make it, or too long ago."""
        return _read(self._sessions, cookie)

    def form_token(self, owner: str) -> str:
        """Return the token of a form that is shown to somebody; it is worth nothing in another's hands."""
        return self._forms.dumps(owner)

    def is_form_of(self, owner: str, token: str) -> bool:
        """Tell whether a form that comes back was shown to its sender."""
        return _read(self._forms, token) == owner


def _serializer(key: str, purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        key, salt=f"trio-alerts/{purpose}", signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
    )


def _read(serializer: URLSafeTimedSerializer, text: str) -> str | None:
    try:
        found = serializer.loads(text, max_age=LASTS_S)
    except BadData:
        return None
    return found if isinstance(found, str) else None
