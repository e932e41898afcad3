"""The package as it is installed: the stubs are in it, and its commands."""

import importlib.metadata
import pathlib
import unittest

import token_service

SOURCES = pathlib.Path(__file__).resolve().parent.parent / "src"


class Package(unittest.TestCase):
    def test_the_stubs_came_with_it(self):
        from token_service.v1 import tokens_pb2, tokens_pb2_grpc

        folder = pathlib.Path(token_service.__file__).parent / "v1"
        for module in (tokens_pb2, tokens_pb2_grpc):
            self.assertEqual(pathlib.Path(module.__file__).parent, folder)
        for name in ("tokens.proto", "tokens_pb2.pyi"):
            self.assertTrue((folder / name).is_file(), name)

    def test_it_is_of_these_sources(self):
        """Else the tests would be those of another state."""
        installed = pathlib.Path(token_service.__file__).parent
        for path in SOURCES.rglob("token_service/**/*.py"):
            copy = installed / path.relative_to(SOURCES / "token_service")
            self.assertEqual(copy.read_bytes(), path.read_bytes(), f"{path} is not what is installed")

    def test_its_commands(self):
        scripts = importlib.metadata.distribution("token-service").entry_points.select(group="console_scripts")
        self.assertEqual({script.name for script in scripts}, {"token-server", "token-client"})
        for script in scripts:
            self.assertTrue(callable(script.load()))

    def test_it_needs_nothing_but_what_it_names(self):
        needs = importlib.metadata.requires("token-service")
        self.assertFalse([need for need in needs if "adit" in need or "tools" in need])
