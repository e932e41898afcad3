"""The service, without a network: its methods are called as gRPC would call them."""

import unittest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from token_service.server import SERVICE, TokenService
from token_service.tokens import Verifier, issue
from token_service.v1 import tokens_pb2

KEY = Ed25519PrivateKey.generate()


class Service(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.service = TokenService(Verifier([KEY.public_key()]))

    async def test_its_name(self):
        self.assertEqual(SERVICE, "tokens.v1.TokenService")

    async def test_a_good_token(self):
        request = tokens_pb2.ValidateRequest(id=7, token=issue(KEY, "alice", 3600))
        answer = await self.service.Validate(request, None)
        self.assertEqual((answer.id, answer.verdict, answer.subject), (7, tokens_pb2.VALID, "alice"))
        self.assertGreater(answer.expires_at.seconds, 0)

    async def test_a_bad_one_says_why_and_no_more(self):
        answer = await self.service.Validate(tokens_pb2.ValidateRequest(id=7, token="a.b.c"), None)
        self.assertEqual((answer.id, answer.verdict), (7, tokens_pb2.MALFORMED))
        self.assertNotEqual(answer.reason, "")
        self.assertFalse(answer.subject or answer.token_id or answer.HasField("expires_at"))

    async def test_a_stream_answers_each_before_the_next_is_sent(self):
        asked = []

        async def requests():
            for number in (3, 1, 2):
                asked.append(number)
                yield tokens_pb2.ValidateRequest(id=number, token=issue(KEY, f"user-{number}", 3600))

        answered = []
        async for answer in self.service.ValidateStream(requests(), None):
            answered.append(answer.id)
            self.assertEqual(answered, asked)
            self.assertEqual((answer.verdict, answer.subject), (tokens_pb2.VALID, f"user-{answer.id}"))
        self.assertEqual(answered, [3, 1, 2])
        self.assertEqual((self.service.streams, self.service.answers), (1, 3))
