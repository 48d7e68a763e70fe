"""``Canvas``: cells to draw on, which become rows of coloured text."""

from __future__ import annotations

from rich.cells import cell_len

from .paper import Row


class Canvas:
    """``width`` × ``height`` blank cells. What does not fit is cut."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells: list[list[tuple[str, str]]] = [[(" ", "")] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, ink: str = "") -> None:
        """Write over what is there, from ``x`` on; a wide character takes two cells."""
        if not 0 <= y < self.height:
            return
        line = self._cells[y]
        for char in text:
            cells = 1 if char.isascii() else cell_len(char)
            if not cells or x < 0:
                x += cells
                continue
            if x + cells > self.width:
                return
            self._clear(line, x)
            if cells == 2:
                self._clear(line, x + 1)
                line[x + 1] = ("", ink)
            line[x] = (char, ink)
            x += cells

    @staticmethod
    def _clear(line: list[tuple[str, str]], x: int) -> None:
        """No half of a wide character stays."""
        if not line[x][0] and x:
            line[x - 1] = (" ", line[x - 1][1])
        if x + 1 < len(line) and not line[x + 1][0]:
            line[x + 1] = (" ", line[x + 1][1])

    def rows(self) -> list[Row]:
        """Lines as pieces, neighbours of one ink joined, blanks at the end left out."""
        found: list[Row] = []
        for line in self._cells:
            row: Row = []
            for char, ink in line:
                if row and row[-1][1] == ink:
                    row[-1] = (row[-1][0] + char, ink)
                elif char:
                    row.append((char, ink))
            while row and not row[-1][0].strip() and "/" not in row[-1][1]:
                row.pop()
            found.append(row)
        return found
