"""Tokens: what is believed, and above all what is not."""

import base64
import datetime
import json
import pathlib
import tempfile
import unittest

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from token_service import LONGEST_TOKEN, tokens
from token_service.tokens import BadKey, Verdict, Verifier, issue, key_id
from token_service.v1 import tokens_pb2

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
HOUR = 3600


class Checked(unittest.TestCase):
    def setUp(self):
        self.verifier = Verifier([KEY.public_key()])

    def expect(self, verdict, token, *words):
        found = self.verifier.check(token)
        self.assertEqual(found.verdict, verdict, found.reason)
        for word in words:
            self.assertIn(word, found.reason)
        if verdict != Verdict.VALID:
            self.assertEqual((found.subject, found.token_id, found.expires), ("", "", 0))
            self.assertNotEqual(found.reason, "")
        return found

    def test_a_good_one(self):
        before = datetime.datetime.now(datetime.UTC).timestamp()
        found = self.expect(Verdict.VALID, issue(KEY, "alice", HOUR))
        self.assertEqual((found.subject, found.reason), ("alice", ""))
        self.assertAlmostEqual(found.expires, before + HOUR, delta=60)
        other = self.expect(Verdict.VALID, issue(KEY, "alice", HOUR))
        self.assertNotEqual(found.token_id, other.token_id)

    def test_it_expires(self):
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        self.expect(Verdict.EXPIRED, issue(KEY, "alice", HOUR, begins=long_ago))
        self.expect(Verdict.VALID, issue(KEY, "alice", 72 * HOUR, begins=long_ago))

    def test_it_does_not_begin_early(self):
        tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        self.expect(Verdict.NOT_YET_VALID, issue(KEY, "alice", HOUR, begins=tomorrow))

    def test_a_key_that_nobody_knows(self):
        self.expect(Verdict.UNKNOWN_KEY, issue(OTHER_KEY, "alice", HOUR), key_id(OTHER_KEY.public_key()))

    def test_a_key_that_is_only_named(self):
        """Signed with a key of one's own, in the name of a good one."""
        self.expect(Verdict.BAD_SIGNATURE, self.forged({}, OTHER_KEY))

    def test_several_keys(self):
        self.verifier = Verifier([KEY.public_key(), OTHER_KEY.public_key()])
        for key in (KEY, OTHER_KEY):
            self.expect(Verdict.VALID, issue(key, "alice", HOUR))

    def test_another_issuer_and_another_audience(self):
        self.expect(Verdict.WRONG_ISSUER, issue(KEY, "alice", HOUR, issuer="somebody"))
        self.expect(Verdict.WRONG_AUDIENCE, issue(KEY, "alice", HOUR, audience="somebody"))

    def test_what_says_too_little(self):
        for claim in tokens.REQUIRED:
            with self.subTest(claim):
                self.expect(Verdict.MALFORMED, self.forged({claim: None}, KEY), claim)

    def test_every_changed_bit_is_noticed(self):
        header, claims, signature = (decode(part) for part in issue(KEY, "alice", HOUR).split("."))
        for part in range(3):
            for position in range(8 * len((header, claims, signature)[part])):
                changed = [header, claims, signature]
                changed[part] = flipped(changed[part], position)
                found = self.verifier.check(".".join(encode(piece) for piece in changed))
                self.assertNotEqual(found.verdict, Verdict.VALID, (part, position))

    def test_another_subject_under_an_old_signature(self):
        header, claims, signature = issue(KEY, "alice", HOUR).split(".")
        claims = encode(json.dumps({**json.loads(decode(claims)), "sub": "mallory"}).encode())
        self.expect(Verdict.BAD_SIGNATURE, f"{header}.{claims}.{signature}")

    def test_the_algorithm_is_not_the_tokens_choice(self):
        """Unsigned; and signed with the public key, which everybody has, as if it were a shared secret."""
        good = jwt.decode(issue(KEY, "alice", HOUR), options={"verify_signature": False})
        named = {"kid": key_id(KEY.public_key())}
        raw = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        for algorithm, key in (("none", None), ("HS256", raw)):
            with self.subTest(algorithm):
                self.expect(Verdict.BAD_SIGNATURE, jwt.encode(good, key, algorithm, headers=named))

    def test_what_is_no_token(self):
        for text in (
            "",
            "a",
            "a.b",
            "a.b.c",
            "....",
            "\0",
            "ä.ö.ü",
            encode(b"[]") + ".e30.",
            "{}",
            "a" * LONGEST_TOKEN,
        ):
            with self.subTest(text[:20]):
                self.expect(Verdict.MALFORMED, text)
        self.expect(Verdict.MALFORMED, "a" * (LONGEST_TOKEN + 1), str(LONGEST_TOKEN + 1))

    def test_verdicts_are_numbered_as_on_the_wire(self):
        wire = {name: number for name, number in tokens_pb2.Verdict.items() if number}
        self.assertEqual({verdict.name: verdict.value for verdict in Verdict}, wire)

    def forged(self, changes, key):
        """A token with these claims changed, or left out, signed with a key and in the name of the good one."""
        claims = jwt.decode(issue(KEY, "alice", HOUR), options={"verify_signature": False})
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(claims, key, "EdDSA", headers={"kid": key_id(KEY.public_key())})


class Keys(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="token-service-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name) / "keys"

    def test_they_are_written_and_read(self):
        tokens.new_keys(self.folder)
        self.assertEqual((self.folder / "signing.pem").stat().st_mode & 0o777, 0o600)
        signing = tokens.load_signing_key(self.folder / "signing.pem")
        verifier = Verifier([tokens.load_public_key(self.folder / "public.pem")])
        self.assertEqual(verifier.check(issue(signing, "alice", HOUR)).verdict, Verdict.VALID)

    def test_they_are_never_replaced(self):
        tokens.new_keys(self.folder)
        before = (self.folder / "signing.pem").read_bytes()
        with self.assertRaises(FileExistsError):
            tokens.new_keys(self.folder)
        self.assertEqual((self.folder / "signing.pem").read_bytes(), before)

    def test_files_of_no_use_are_named(self):
        tokens.new_keys(self.folder)
        pem = serialization.Encoding.PEM
        other = rsa.generate_private_key(65537, 2048).public_key()
        (self.folder / "rsa.pem").write_bytes(other.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        (self.folder / "text.pem").write_text("a key")
        for name, why in (("rsa", "RSA"), ("text", "PEM"), ("none", "No such file"), ("signing", "PEM")):
            with self.subTest(name), self.assertRaisesRegex(BadKey, rf"{name}\.pem.*{why}"):
                tokens.load_public_key(self.folder / f"{name}.pem")
        with self.assertRaisesRegex(BadKey, r"public\.pem"):
            tokens.load_signing_key(self.folder / "public.pem")


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encode(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
