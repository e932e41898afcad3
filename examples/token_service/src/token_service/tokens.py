"""Tokens: JSON Web Tokens, signed with Ed25519, that expire."""

import base64
import datetime
import enum
import hashlib
import os
import pathlib
import uuid
from dataclasses import dataclass

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from token_service import LONGEST_TOKEN

# The one algorithm: a token that names another is not believed, whatever key it brings.
ALGORITHM = "EdDSA"
ISSUER = "token-service"
AUDIENCE = "example"
# Without these a token could not be told from one that is good for ever or for everybody.
REQUIRED = ["aud", "exp", "iat", "iss", "jti", "sub"]


class Verdict(enum.IntEnum):
    """What a token turned out to be, numbered as in tokens.proto."""

    VALID = 1
    MALFORMED = 2
    UNKNOWN_KEY = 3
    BAD_SIGNATURE = 4
    EXPIRED = 5
    NOT_YET_VALID = 6
    WRONG_ISSUER = 7
    WRONG_AUDIENCE = 8


# From the library's errors, the more special ones first.
VERDICTS = (
    (jwt.ExpiredSignatureError, Verdict.EXPIRED),
    (jwt.ImmatureSignatureError, Verdict.NOT_YET_VALID),
    (jwt.InvalidIssuerError, Verdict.WRONG_ISSUER),
    (jwt.InvalidAudienceError, Verdict.WRONG_AUDIENCE),
    (jwt.InvalidSignatureError, Verdict.BAD_SIGNATURE),
    (jwt.InvalidAlgorithmError, Verdict.BAD_SIGNATURE),
    (jwt.InvalidTokenError, Verdict.MALFORMED),
)


@dataclass(frozen=True)
class Finding:
    """A verdict and its reason; with VALID, what the token says."""

    verdict: Verdict
    reason: str = ""
    subject: str = ""
    token_id: str = ""
    expires: int = 0


class BadKey(Exception):
    """A key file that is of no use."""


class Verifier:
    """Checks tokens with the public keys of those who may issue them."""

    def __init__(self, public_keys, issuer=ISSUER, audience=AUDIENCE):
        self.keys = {key_id(key): key for key in public_keys}
        self.issuer = issuer
        self.audience = audience

    def check(self, token):
        """What this token is, now."""
        if len(token) > LONGEST_TOKEN:
            return Finding(Verdict.MALFORMED, f"{len(token)} characters; a token has {LONGEST_TOKEN} at the most")
        try:
            named = jwt.get_unverified_header(token).get("kid")
            key = self.keys.get(named)
            if key is None:
                return Finding(Verdict.UNKNOWN_KEY, f"the key {named!r} is not one of the service's")
            claims = jwt.decode(
                token, key, algorithms=[ALGORITHM], issuer=self.issuer, audience=self.audience,
                options={"require": REQUIRED},
            )  # fmt: skip
        except jwt.InvalidTokenError as error:
            verdict = next(verdict for kind, verdict in VERDICTS if isinstance(error, kind))
            return Finding(verdict, str(error))
        return Finding(Verdict.VALID, "", claims["sub"], claims["jti"], int(claims["exp"]))


def issue(key, subject, lifetime, issuer=ISSUER, audience=AUDIENCE, begins=None):
    """A token for a subject, good for so many seconds from now, or from another time on."""
    begins = begins or datetime.datetime.now(datetime.UTC)
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "jti": str(uuid.uuid4()),
        "iat": begins,
        "nbf": begins,
        "exp": begins + datetime.timedelta(seconds=lifetime),
    }
    return jwt.encode(claims, key, ALGORITHM, headers={"kid": key_id(key.public_key())})


def key_id(public_key):
    """A name for a key: tokens say by it which one they were signed with, so that keys can be changed."""
    raw = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:12]).decode()


def new_keys(folder):
    """Writes signing.pem, which nobody else may have, and public.pem. It never replaces a key."""
    key = Ed25519PrivateKey.generate()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_new(
        folder / "signing.pem",
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        0o600,
    )
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_new(folder / "public.pem", pem, 0o644)
    return key


def write_new(path, content, mode):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def load_signing_key(path):
    return load(path, lambda pem: serialization.load_pem_private_key(pem, None), Ed25519PrivateKey)


def load_public_key(path):
    return load(path, serialization.load_pem_public_key, Ed25519PublicKey)


def load(path, parse, kind):
    try:
        key = parse(pathlib.Path(path).read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{path}: {error}") from error
    if not isinstance(key, kind):
        raise BadKey(f"{path} is a {type(key).__name__}; an {kind.__name__} is needed")
    return key
