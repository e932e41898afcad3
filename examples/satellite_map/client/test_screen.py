"""What is drawn, as a terminal shows it.

python -m unittest discover examples/satellite_map/client
"""

import io
import os
import unittest
from unittest import mock

import pyte

import screen

TERRAINS = {symbol: terrain for terrain, (symbol, _) in screen.SYMBOLS.items()}
MAP = ["..+#", "*#+.", "+..*"]


class Out(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def draw(out, where, columns=4, rows=3):
    drawn = screen.opened(out, columns, rows)
    for column, row in where:
        drawn.show(column, row, TERRAINS[MAP[row][column]])
    return drawn


def everywhere():
    return [(column, row) for row in range(3) for column in range(4)]


class OnATerminal(unittest.TestCase):
    def setUp(self):
        self.size(columns=6, lines=5)

    def size(self, columns, lines):
        patch = mock.patch.dict(os.environ, COLUMNS=str(columns), LINES=str(lines))
        patch.start()
        self.addCleanup(patch.stop)

    def shown(self, text, before=""):
        """What a terminal of that size shows when this is written, without empty ends."""
        terminal = pyte.Screen(6, 5)
        stream = pyte.Stream(terminal)
        # A terminal's driver makes a return of each end of a line.
        stream.feed((before + text).replace("\n", "\r\n"))
        return terminal, [line.rstrip() for line in terminal.display]

    def test_each_image_is_in_its_place_as_soon_as_it_is_there(self):
        out = Out(terminal=True)
        draw(out, [(3, 2), (0, 0), (1, 1)])
        _, shown = self.shown(out.getvalue())
        self.assertEqual(shown, [".", " #", "   *", "", ""])

    def test_the_whole_map_in_any_order(self):
        out = Out(terminal=True)
        draw(out, reversed(everywhere())).close()
        terminal, shown = self.shown(out.getvalue())
        self.assertEqual(shown, [*MAP, "", ""])
        self.assertEqual((terminal.cursor.y, terminal.cursor.x), (3, 0))
        self.assertEqual(terminal.buffer[0][3].fg, "green")
        self.assertEqual(terminal.cursor.attrs.fg, "default")

    def test_what_was_on_the_terminal_scrolls(self):
        out = Out(terminal=True)
        draw(out, everywhere()).close()
        _, shown = self.shown(out.getvalue(), before="1\n2\n3\n4\n")
        self.assertEqual(shown, ["4", *MAP, ""])

    def test_a_terminal_that_is_too_small_gets_rows(self):
        for columns, lines in ((3, 5), (6, 3)):
            self.size(columns, lines)
            out = Out(terminal=True)
            draw(out, everywhere()).close()
            self.assertEqual(out.getvalue().splitlines(), MAP)


class Elsewhere(unittest.TestCase):
    def test_a_row_is_written_when_it_is_over(self):
        out = Out(terminal=False)
        drawn = draw(out, everywhere()[:5])
        self.assertEqual(out.getvalue(), "..+#\n")
        drawn.close()
        self.assertEqual(out.getvalue(), "..+#\n*\n")

    def test_what_is_missing_is_blank(self):
        out = Out(terminal=False)
        draw(out, [(2, 0), (3, 2)]).close()
        self.assertEqual(out.getvalue(), "  +\n   *\n")

    def test_nothing_came(self):
        out = Out(terminal=False)
        draw(out, []).close()
        self.assertEqual(out.getvalue(), "")

    def test_a_terrain_that_this_client_does_not_know(self):
        out = Out(terminal=False)
        drawn = screen.opened(out, 2, 1)
        drawn.show(0, 0, "LAVA")
        drawn.close()
        self.assertEqual(out.getvalue(), "?\n")


if __name__ == "__main__":
    unittest.main()
