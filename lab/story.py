"""How the demo speaks: coloured tables on a terminal, plain lines on a pipe."""

import sys
from collections.abc import Sequence
from pathlib import Path


class Story:
    """Numbers the steps and prints what was seen."""

    def __init__(self) -> None:
        self._steps = 0
        self._console = None
        if sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(highlight=False)

    def step(self, text: str) -> None:
        self._steps += 1
        self._print(f"\n{self._steps}. {text}", "bold cyan")

    def say(self, text: str) -> None:
        self._print(f"   {text}", "")

    def done(self, text: str) -> None:
        self._print(f"\n{text}", "bold green")

    def fail(self, text: str, logs: Sequence[Path]) -> None:
        """Say what did not come true, with the ends of the logs."""
        self._print(f"\nFAILED: {text}", "bold red")
        for log in logs:
            self.say(f"--- the end of {log.parent.name}/{log.name}")
            for line in log.read_text(errors="replace").splitlines()[-15:]:
                self.say(line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        if self._console:
            from rich.table import Table

            table = Table(*columns, header_style="bold")
            for row in rows:
                table.add_row(*(f"[green]{cell}[/]" if cell == "started" else cell for cell in row))
            self._console.print(table)
            return
        widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
        for row in (columns, *rows):
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _print(self, text: str, style: str) -> None:
        if self._console:
            self._console.print(text, style=style or None, markup=False)
        else:
            print(text, flush=True)
