"""Draws a map while its images arrive: on a terminal each in its place, elsewhere row by row."""

import shutil

# A symbol for each terrain, and its colour on a terminal (SGR).
SYMBOLS = {"SEA": (".", "34"), "COAST": ("+", "33"), "LAND": ("#", "32"), "ICE": ("*", "97")}
UNKNOWN = ("?", "31")


def opened(out, columns, rows):
    """What draws on `out` what has so many columns and rows."""
    if out.isatty():
        terminal = shutil.get_terminal_size()
        # One row more, for the cursor.
        if terminal.columns >= columns and terminal.lines > rows:
            return Terminal(out, rows)
    return Lines(out, columns)


class Terminal:
    """A frame of empty rows, with the cursor below it. It scrolls with whatever is written before and after."""

    def __init__(self, out, rows):
        self.out, self.rows = out, rows
        out.write("\n" * rows)
        out.flush()

    def show(self, column, row, terrain):
        symbol, colour = SYMBOLS.get(terrain, UNKNOWN)
        up = self.rows - row
        right = f"\x1b[{column}C" if column else ""
        self.out.write(f"\x1b[{up}A\r{right}\x1b[{colour}m{symbol}\x1b[0m\x1b[{up}B\r")
        self.out.flush()

    def close(self):
        """The cursor is below the frame already."""


class Lines:
    """A row is written when the next one begins, or when all is over. What is missing in it is blank."""

    def __init__(self, out, columns):
        self.out, self.columns = out, columns
        self.row, self.line = None, []

    def show(self, column, row, terrain):
        if row != self.row:
            self.close()
            self.row, self.line = row, [" "] * self.columns
        self.line[column] = SYMBOLS.get(terrain, UNKNOWN)[0]

    def close(self):
        if self.row is not None:
            self.out.write("".join(self.line).rstrip() + "\n")
            self.out.flush()
            self.row = None
