"""The Contacts service without a network: its methods are called as gRPC would call them.

    python -m unittest discover examples/hello_mtls/python
"""

import unittest

import grpc

import contacts
from contacts import pb


class Aborted(Exception):
    """What ends a handler that aborts its call, as in grpc.aio."""

    def __init__(self, code, details):
        super().__init__(f"{code.name}: {details}")
        self.code, self.details = code, details


class Context:
    """The part of grpc.aio.ServicerContext that the service uses."""

    def __init__(self, **properties):
        self.properties = properties

    def auth_context(self):
        return self.properties

    async def abort(self, code, details):
        raise Aborted(code, details)


def say_hello(person, context=None):
    return contacts.Contacts().sayHello(person, context or Context())


class SayHello(unittest.IsolatedAsyncioTestCase):
    async def test_greets_by_the_whole_name(self):
        response = await say_hello(pb.Person(given_name="Ada", family_name="Lovelace"))
        self.assertEqual(response.message, "Hello, Ada Lovelace!")

    async def test_a_family_name_is_not_needed(self):
        response = await say_hello(pb.Person(given_name="Aristotle"))
        self.assertEqual(response.message, "Hello, Aristotle!")

    async def test_space_around_names_does_not_count(self):
        response = await say_hello(pb.Person(given_name="  Ada ", family_name=" King  "))
        self.assertEqual(response.message, "Hello, Ada King!")

    async def test_names_of_any_script(self):
        response = await say_hello(pb.Person(given_name="紫", family_name="式部"))
        self.assertEqual(response.message, "Hello, 紫 式部!")

    async def test_a_name_may_have_a_hundred_characters(self):
        longest = "é" * contacts.MAX_NAME
        response = await say_hello(pb.Person(given_name=longest))
        self.assertEqual(response.message, f"Hello, {longest}!")

    async def test_who_cannot_be_greeted_is_refused_with_the_reason(self):
        for person, reason in (
            (pb.Person(), "given_name is empty"),
            (pb.Person(family_name="Lovelace"), "given_name is empty"),
            (pb.Person(given_name=" \t"), "given_name is empty"),
            (pb.Person(given_name="a" * 101), "given_name has 101 characters"),
            (pb.Person(given_name="Ada", family_name="b" * 5000), "family_name has 5000 characters"),
            (pb.Person(given_name="Ada\x1b[2J"), "given_name has characters that cannot be printed"),
            (pb.Person(given_name="Ada", family_name="Love\nlace"), r"family_name has characters .* 'Love\\nlace'"),
        ):
            with self.subTest(reason), self.assertRaisesRegex(Aborted, reason) as refused:
                await say_hello(person)
            self.assertEqual(refused.exception.code, grpc.StatusCode.INVALID_ARGUMENT)

    async def test_the_caller_is_told_whom_the_server_takes_him_for(self):
        context = Context(x509_subject_alternative_name=[b"spiffe://adit/agent/site-7"])
        response = await say_hello(pb.Person(given_name="Ada"), context)
        self.assertEqual(response.caller, "spiffe://adit/agent/site-7")


class CallerOf(unittest.TestCase):
    """The names are those that gRPC gives the properties of a certificate."""

    def test_a_uri_is_better_than_a_name(self):
        for names, uri in (
            ([b"spiffe://adit/agent/site-7"], "spiffe://adit/agent/site-7"),
            ([b"site-7.example.com", b"127.0.0.1", b"spiffe://adit/agent/site-7"], "spiffe://adit/agent/site-7"),
        ):
            found = contacts.caller_of({"x509_subject_alternative_name": names, "x509_common_name": [b"site-7"]})
            self.assertEqual(found, uri)

    def test_without_a_uri_the_common_name(self):
        certificate = {"x509_subject_alternative_name": [b"localhost"], "x509_common_name": [b"contacts agent"]}
        self.assertEqual(contacts.caller_of(certificate), "contacts agent")

    def test_without_a_certificate_nobody(self):
        self.assertEqual(contacts.caller_of({}), "nobody")

    def test_a_name_that_is_not_text_is_no_failure(self):
        self.assertEqual(contacts.caller_of({"x509_common_name": [b"caf\xe9"]}), "caf\ufffd")


if __name__ == "__main__":
    unittest.main()
