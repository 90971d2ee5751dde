"""Make thumbnails of images with Pillow (`pip install pillow`).

    tq daemon start --app examples/process_image.py
    python examples/process_image.py pictures/               # draws three pictures there if the folder is empty

A file that is no image, or one made to eat the memory, fails at once: it will be the same next time. A disk that is full
or a share that is away is worth another try. Each thumbnail appears under its name only when it is whole, so a second
run of the same task overwrites it with the same picture.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

import tq

Image.MAX_IMAGE_PIXELS = 50_000_000  # Pillow warns from there on, and refuses twice as many


@dataclass(frozen=True)
class Picture:
    """An image file, the folder for its thumbnails, and the longest side of each, in pixels."""

    path: str
    into: str
    sides: tuple[int, ...] = (64, 256)


@dataclass(frozen=True)
class Thumbnail:
    path: str
    width: int
    height: int


class ProcessImage(tq.Task[Picture, list[Thumbnail]]):
    """Write a JPEG of each size."""

    type = "process_image"
    queue = "images"
    timeout = "1m"
    retry_on = OSError
    retry_never = (UnidentifiedImageError, Image.DecompressionBombError)  # the first is an OSError: never wins

    def execute(self, payload: Picture) -> list[Thumbnail]:
        now, source, made = tq.current(), Path(payload.path), []
        with Image.open(source) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")  # upright, as a camera meant it
        for done, side in enumerate(payload.sides, 1):
            small = image.copy()
            small.thumbnail((side, side))
            target = Path(payload.into) / f"{source.stem}-{side}.jpg"
            part = target.with_suffix(".part")
            small.save(part, "JPEG", quality=85)
            part.replace(target)
            made.append(Thumbnail(str(target), *small.size))
            now.progress(done / len(payload.sides), f"{side} pixels")
        now.logger.info("%s is %d x %d", source.name, *image.size)
        return made


def draw(folder: Path) -> None:
    """Three pictures to work on: a landscape, a portrait, a square."""
    for name, size in {"landscape": (1600, 900), "portrait": (900, 1600), "square": (1000, 1000)}.items():
        image = Image.radial_gradient("L").resize(size).convert("RGB")
        ImageDraw.Draw(image).text((20, 20), name, fill="red")
        image.save(folder / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make thumbnails of all images of a folder through the queue.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()  # the worker's current directory is another one
    into = folder / "thumbnails"
    into.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.png")):
        draw(folder)
    tasks = [ProcessImage.enqueue(Picture(str(path), str(into))) for path in sorted(folder.glob("*.png"))]
    for task in tasks:
        for made in task.result(timeout="5m"):
            print(f"{made.width} x {made.height}  {made.path}")


if __name__ == "__main__":
    main()
