"""Printing: tables on a terminal."""

from rich.table import Table


def make_table(title: str, *columns: str, right: str = "") -> Table:
    """Return an empty table; columns named in `right`, by comma, stand to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right.split(",") else "left")
    return table
