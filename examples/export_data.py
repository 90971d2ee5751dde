"""Export a table of a SQLite database as CSV, however large: read and written in pieces, with progress.

    tq daemon start --app examples/export_data.py
    python examples/export_data.py shop.db orders.csv        # makes a database of 100,000 orders if there is none
    tq status @last                                          # while it runs: how far it has come

The query is chosen by name: what may be read stands here, not in the payload. The file appears under its name only when
it is whole; an attempt that is cut short (a cancel, a time limit) removes what it has, and the next one starts afresh.
"""

from __future__ import annotations

import argparse
import csv
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import tq

QUERIES = {
    "orders": "SELECT id, customer, cents, ordered_on FROM orders ORDER BY id",
    "customers": "SELECT customer, count(*) AS orders, sum(cents) AS cents FROM orders GROUP BY customer ORDER BY customer",
}
ROWS_AT_ONCE = 2000


class Export(TypedDict):
    """What an export gives."""

    path: str
    rows: int
    bytes: int


# A locked database is worth another try, a wrong query is not worth it; both are an OperationalError, and five tries are cheap.
@tq.task("export_data", queue="exports", timeout="30m", retries=5, retry_on=(sqlite3.OperationalError, OSError))
def export_data(database: str, query: str, into: str) -> Export:
    """Write the rows of a query to the file ``into``."""
    if query not in QUERIES:
        raise tq.Permanent(f"expected a query among {', '.join(QUERIES)}, got {query!r}")
    now, target = tq.current(), Path(into)
    part = target.with_name(f".{target.name}.part")  # a task never runs twice at the same time, so the name is its own
    source = sqlite3.connect(f"{Path(database).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        with closing(source), part.open("w", newline="", encoding="utf-8") as file:
            source.execute("BEGIN")  # one view of the data, from the first row to the last
            (total,) = source.execute(f"SELECT count(*) FROM ({QUERIES[query]})").fetchone()  # noqa: S608 - a text of this file
            cursor = source.execute(QUERIES[query])
            writer = csv.writer(file)
            writer.writerow(column[0] for column in cursor.description)
            done = 0
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                writer.writerows(rows)
                done += len(rows)
                now.progress(done / total, f"{done:,} of {total:,} rows")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return {"path": str(target), "rows": done, "bytes": target.stat().st_size}


def make_database(path: Path, orders: int = 100_000) -> None:
    """A database with something in it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER, ordered_on TEXT)")
        rows = ((f"customer {n % 997}", n * 37 % 10_000, f"2025-{n % 12 + 1:02}-{n % 28 + 1:02}") for n in range(orders))
        database.executemany("INSERT INTO orders (customer, cents, ordered_on) VALUES (?, ?, ?)", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export a table of a SQLite database through the queue.")
    parser.add_argument("database", type=Path)
    parser.add_argument("into", type=Path)
    parser.add_argument("--query", default="orders", choices=QUERIES)
    options = parser.parse_args()
    if not options.database.exists():
        make_database(options.database)
    # The worker's current directory is another one: paths travel absolute.
    task = export_data.enqueue(str(options.database.absolute()), options.query, str(options.into.absolute()))
    print(f"task {task.id} is on disk")
    done = task.result(timeout="30m")
    print(f"{done['rows']} rows, {done['bytes']} bytes in {done['path']}")


if __name__ == "__main__":
    main()
