"""The Contacts service. It knows of no network: server.py gives it one, test_contacts.py does without."""

import logging
import pathlib
import sys

import grpc

# The stubs are made from the .proto file when it is loaded (by grpcio-tools): nothing generated is kept.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
pb, services = grpc.protos_and_services("contacts.proto")

SERVICE = pb.DESCRIPTOR.services_by_name["Contacts"].full_name

# Characters of one name. The greeting is written into logs and onto terminals.
MAX_NAME = 100

log = logging.getLogger("contacts")


class InvalidPerson(Exception):
    """A person who cannot be greeted, and why."""


class Contacts(services.ContactsServicer):
    """Greets whoever is named, and says to the caller who it takes him for."""

    async def sayHello(self, request, context):
        caller = caller_of(context.auth_context())
        try:
            message = greeting(request)
        except InvalidPerson as invalid:
            log.info("refused a call from %s: %s", caller, invalid)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(invalid))
        log.info("said hello for %s", caller)
        return pb.HelloResponse(message=message, caller=caller)


def greeting(person):
    given, family = (checked(person, field) for field in ("given_name", "family_name"))
    if not given:
        raise InvalidPerson("given_name is empty: name the person to greet")
    return f"Hello, {given} {family}".rstrip() + "!"


def checked(person, field):
    """A name without the space around it."""
    name = getattr(person, field).strip()
    if len(name) > MAX_NAME:
        raise InvalidPerson(f"{field} has {len(name)} characters, and {MAX_NAME} is the most")
    if not name.isprintable():
        raise InvalidPerson(f"{field} has characters that cannot be printed: {name!r}")
    return name


def caller_of(auth_context):
    """Who the certificate is for that the caller showed: the URI in it (a SPIFFE id, say), or its common name.

    TLS has checked the certificate before the service is called, and without one there is no call.
    """
    uris = (name for name in properties(auth_context, "x509_subject_alternative_name") if "://" in name)
    names = properties(auth_context, "x509_common_name")
    return next(iter((*uris, *names)), "nobody")


def properties(auth_context, key):
    return [value.decode(errors="replace") for value in auth_context.get(key, ())]
