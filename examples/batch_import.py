"""An import as a batch: a task for each file, which adds one for each of its parts; and what is sent when all of them are over.

tq daemon start --app examples/batch_import.py
python examples/batch_import.py /tmp/import
tq batch list

``/tmp/import`` is a directory for its files, which are made up; one of them has a part that cannot be read. So the batch is complete,
but no success: once that part is mended (here by a file that the program writes), `retry` of the batch runs only what failed, and
then the success is sent, too. Each callback comes once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tq

FILES, PARTS = 3, 4


@tq.task("import.file", queue="import")
def read_file(folder: str, number: int) -> int:
    """One file: its parts are members of the same batch, added from inside of it."""
    batch = tq.current().batch
    assert batch is not None
    batch.enqueue_many(("import.part", {"folder": folder, "number": number, "part": part}) for part in range(PARTS))
    return PARTS


@tq.task("import.part", queue="import", retries=0)
def read_part(folder: str, number: int, part: int) -> None:
    """One part of a file. The second of the second file is broken, until somebody mends it."""
    if (number, part) == (1, 1) and not (Path(folder) / "mended").exists():
        raise ValueError(f"file {number}, part {part}: expected rows, got half a row")


@tq.task("import.tell", queue="import")
def tell(folder: str, what: str) -> None:
    """A callback: what it says stands in a file."""
    batch = tq.current().batch
    assert batch is not None
    row = batch.progress()
    with open(Path(folder) / "told.txt", "a") as file:
        file.write(f"{what}: {row['succeeded']} of {row['total']}\n")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "told.txt").unlink(missing_ok=True)
    (folder / "mended").unlink(missing_ok=True)
    place = str(folder)
    with tq.connect() as q:
        with q.batch(
            "import", on_failure=tell.s(place, "a part failed"), on_complete=tell.s(place, "all over"), on_success=tell.s(place, "all in")
        ) as batch:
            for number in range(FILES):
                batch.add(read_file.s(place, number))
        row = batch.wait(timeout=60)
        print(f"batch {batch.id}: {row['succeeded']} succeeded, {row['failed']} failed")
        (folder / "mended").touch()
        chore = batch.retry()
        if chore is not None:
            q.wait_chore(chore, 60)
        row = batch.wait(timeout=60)
        print(f"batch {batch.id}: {row['succeeded']} succeeded, {row['failed']} failed")
        q.wait([task_id for _, task_id in row["callbacks"].values() if task_id], timeout=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
