"""The configuration file."""

import asyncio
import hashlib
import threading
from unittest import mock

import configuration
from configuration import LONGEST, Configuration, Refused
from tests.fixtures import WithDaemon


class Replacing(WithDaemon):
    async def test_the_file_is_the_new_one_and_nothing_else_is_left(self):
        await self.configuration.replace("tag second\n")
        self.assertEqual(self.file.read_text(), "tag second\n")
        self.assertEqual(self.configuration.sha256(), hashlib.sha256(b"tag second\n").hexdigest())
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.file.name])

    async def test_a_first_file_is_for_its_owner_alone(self):
        self.file.unlink()
        self.assertEqual(self.configuration.sha256(), "")
        await self.configuration.replace("tag first\n")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    async def test_a_later_one_keeps_the_mode(self):
        self.file.chmod(0o640)
        await self.configuration.replace("tag second\n")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o640)

    async def test_a_reader_finds_all_of_one_file(self):
        """Written in pieces, a file of this size would be seen half done."""
        plain = Configuration(self.file)
        texts = [letter * LONGEST for letter in "ab"]
        await plain.replace(texts[0])
        seen, over = set(), threading.Event()

        def read():
            while not over.is_set():
                seen.add(hashlib.sha256(self.file.read_bytes()).hexdigest())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for turn in range(20):
                await plain.replace(texts[turn % 2])
                await asyncio.sleep(0)
        finally:
            over.set()
            reader.join()
        self.assertLessEqual(seen, {hashlib.sha256(text.encode()).hexdigest() for text in texts})


class Refusing(WithDaemon):
    async def expect_refused(self, text, why, subject=None):
        with self.assertRaisesRegex(Refused, why):
            await (subject or self.configuration).replace(text)
        self.assertEqual(self.file.read_text(), "tag first\n")
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.file.name])

    async def test_what_the_daemon_would_not_take(self):
        await self.expect_refused("tga second\n", "exited 1: .*unknown .'tga'")

    async def test_an_empty_one(self):
        await self.expect_refused(" \n", "empty")

    async def test_one_that_is_too_long(self):
        await self.expect_refused("#" * (LONGEST + 1), f"of {LONGEST + 1} bytes")

    async def test_a_check_that_does_not_start(self):
        await self.expect_refused("tag a\n", "does not start", Configuration(self.file, lambda _: ["no-such-check"]))

    async def test_a_check_that_does_not_end(self):
        with mock.patch.object(configuration, "CHECK_TIMEOUT", 0.1):
            subject = Configuration(self.file, lambda _: ["sleep", "1000"])
            await self.expect_refused("tag a\n", "not ended within 0.1 s", subject)
