"""Compare what is read of odd picture files with what a browser shows: headless Chromium is the judge.

    python scripts/check_browser.py [--out results/browser.json] [--browser chromium] [--keep FOLDER]

The files are made here and in odd_pictures.py: every mode and depth, gamma and primaries, transparency, orientations,
profiles, damaged and superfluous chunks, animations, truncation, wrong suffixes. The browser draws each on a canvas of
an empty page, on white and on black, which gives its colours and its transparency; `decode_picture` reads the same
file, and its colours are converted to sRGB. The two must not differ by more than 1 of 255 in the rows that the browser
shows. What it does not show, or shows only in part, may be refused.
"""

import argparse
import base64
import io
import json
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odd_pictures import odd_chunks, odd_jpegs, odd_pixels
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from profiles import ADOBE_RGB, DISPLAY_P3, display_profile, grey_profile, ink_profile

from attncodec.environment import versions
from attncodec.errors import ImageError
from attncodec.files import write_atomic
from attncodec.pictures import decode_picture
from attncodec.pictures.png import SIGNATURE
from attncodec.pictures.reading import colours_in_srgb

PAGE = """<!doctype html><meta charset=utf-8><script>
const found = [];
async function show(name, url) {
  const image = new Image();
  image.src = url;
  try { await image.decode(); } catch (error) { return {name, error: String(error)}; }
  const planes = [];
  for (const paper of ["white", "black"]) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", {colorSpace: "srgb", willReadFrequently: true});
    context.fillStyle = paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    planes.push(Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data));
  }
  return {name, width: image.naturalWidth, height: image.naturalHeight, planes};
}
(async () => {
  for (const [name, url] of await (await fetch("files")).json()) found.push(await show(name, url));
  await fetch("found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""
TOLERANCE = 1
PATIENCE_S = 120  # This is how long the browser may take.
# Here we do not follow the browser: PNG allows such pixels a profile of RGB alone, and it takes them for Lab.
QUIRKS = {"profile-lab.png"}
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp"}
KINDS[".avif"] = "image/avif"


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes, wrong: bool = False) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def behind_header(data: bytes, *chunks: bytes) -> bytes:
    place = len(SIGNATURE) + 25
    return data[:place] + b"".join(chunks) + data[place:]


def odd_files() -> Iterator[tuple[str, bytes]]:
    """Make the files, by names whose suffix is that of the format."""
    yield from usual_and_odd()
    yield from odd_pixels()
    yield from odd_chunks()
    yield from odd_jpegs()


def usual_and_odd() -> Iterator[tuple[str, bytes]]:
    """Make those of every mode, profile and orientation, and those that are cut or damaged."""
    y, x = np.mgrid[:24, :36]
    rgb = np.stack([x * 7, y * 10, (x + y) * 4], axis=2).astype(np.uint8)
    image, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0])
    alpha = Image.fromarray(((x * 7 + y * 3) % 256).astype(np.uint8))
    with_alpha, grey_alpha = image.copy(), grey.copy()
    with_alpha.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    palette = image.quantize(16)
    modes = {"rgb": image, "grey": grey, "bits": grey.convert("1"), "palette": palette, "rgba": with_alpha}
    modes |= {"la": grey_alpha, "palette2": image.quantize(2), "palette4": image.quantize(4)}
    for name, made in modes.items():
        yield f"{name}.png", saved(made)
        yield f"{name}-interlaced.png", saved(made, optimize=True)
    for name in ("rgb", "rgba", "palette", "grey"):
        yield f"{name}.webp", saved(modes[name].convert("RGBA" if name == "rgba" else "RGB"), "WEBP", lossless=True)
        yield f"{name}.bmp", saved(modes[name].convert("RGB") if name == "rgba" else modes[name], "BMP")
    yield "palette.gif", saved(palette, "GIF")
    yield "transparent.gif", saved(palette, "GIF", transparency=3)
    yield "animation.gif", saved(image, "GIF", save_all=True, append_images=[image.rotate(90)])
    yield "animation.png", saved(image, save_all=True, append_images=[image.rotate(180)])
    yield "animation.webp", saved(image, "WEBP", save_all=True, append_images=[image.rotate(180)], lossless=True)
    yield "16-bit-grey.png", saved(Image.fromarray((rgb[..., 0].astype(np.uint16) * 257 + 40).clip(0, 65535)))
    yield "transparent-palette.png", saved(palette, transparency=bytes([0, 128, 255] * 5 + [9]))
    yield "transparent-grey.png", saved(grey, transparency=int(rgb[3, 3, 0]))
    yield "transparent-rgb.png", saved(image, transparency=tuple(int(v) for v in rgb[3, 3]))
    for gamma in (100_000, 45_455, 55_556, 33_333):
        yield f"gamma-{gamma}.png", behind_header(saved(image), chunk(b"gAMA", struct.pack(">I", gamma)))
    wide = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    adobe = (chunk(b"gAMA", struct.pack(">I", 45_455)), chunk(b"cHRM", wide))
    yield "primaries.png", behind_header(saved(image), *adobe)
    yield (
        "srgb-and-gamma.png",
        behind_header(saved(image), chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))),
    )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "profile.png", saved(image, icc_profile=srgb)
    yield "profile-damaged.png", saved(image, icc_profile=b"nonsense" * 40)
    yield "profile-lab.png", saved(image, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    cmyk = Image.fromarray(np.dstack([rgb, rgb[..., 0] // 4]), mode="CMYK")
    for name, profile in (("p3", display_profile(DISPLAY_P3, 2.2)), ("adobe", display_profile(ADOBE_RGB, 2.2))):
        yield f"{name}.png", saved(image, icc_profile=profile)
        yield f"{name}.jpg", saved(image, "JPEG", quality=100, subsampling=0, icc_profile=profile)
        yield f"{name}.webp", saved(image, "WEBP", lossless=True, icc_profile=profile)
        yield f"{name}-palette.png", saved(palette, icc_profile=profile)
        yield f"{name}-grey.png", saved(grey, icc_profile=profile)
        yield f"{name}-cmyk.jpg", saved(cmyk, "JPEG", quality=100, subsampling=0, icc_profile=profile)
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=100, subsampling=0)
    for name, made in (("grey", grey), ("rgb", image), ("palette", palette), ("la", grey_alpha)):
        yield f"grey-profile-{name}.png", saved(made, icc_profile=grey_profile(1.4))
    yield "grey-profile.jpg", saved(grey, "JPEG", quality=100, icc_profile=grey_profile(1.4))
    yield "rgb-profile-grey.jpg", saved(grey, "JPEG", quality=100, icc_profile=display_profile(ADOBE_RGB, 1.4))
    yield "inks-rgb.png", saved(image, icc_profile=ink_profile())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation-{orientation}.jpg", saved(image, "JPEG", quality=100, subsampling=0, exif=exif)
    yield "exif-broken.jpg", saved(image, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + b"nonsense" * 4)
    yield "grey.jpg", saved(grey, "JPEG", quality=95)
    yield "progressive.jpg", saved(image, "JPEG", quality=95, progressive=True)
    yield "comment.jpg", saved(image, "JPEG", quality=95, comment=b"x" * 60_000)
    big = Image.fromarray(np.tile(rgb, (12, 12, 1)))
    data = saved(big, "JPEG", quality=90)
    yield "cut-at-the-end.jpg", data[:-40]
    yield "cut-in-half.jpg", data[: len(data) // 2]
    info = PngInfo()
    info.add_text("key", "x" * 3_000_000)
    yield "long-text.png", saved(image, pnginfo=info)
    bomb = chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(80_000_000), 9))
    yield "text-bomb.png", behind_header(saved(image), bomb)
    for kind in (b"tEXt", b"gAMA", b"pHYs", b"prVt"):
        yield f"wrong-crc-{kind.decode()}.png", behind_header(saved(image), chunk(kind, b"abcd", wrong=True))
    plain = saved(image)
    at = plain.index(b"IDAT")
    yield "wrong-crc-IDAT.png", plain[: at + 9] + bytes([plain[at + 9] ^ 1]) + plain[at + 10 :]
    yield "no-end.png", plain[:-12]
    yield "cut-in-half.png", plain[: len(plain) // 2]
    yield "trailing-bytes.png", plain + b"nonsense" * 9
    yield "is-a-jpeg.png", saved(image, "JPEG", quality=100, subsampling=0)
    yield "is-a-png.jpg", plain
    yield "not-a-picture.png", b"nonsense" * 30
    yield "empty.png", b""


def shown_by_browser(browser: str, files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Draw the files in a headless browser, and return its pixels by name."""
    urls = [
        (name, f"data:{KINDS[Path(name).suffix]};base64,{base64.b64encode(data).decode()}")
        for name, data in files.items()
    ]
    answers = {"/": PAGE, "/files": json.dumps(urls)}
    posted: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"]
        command += [f"--user-data-dir={folder}/profile", f"http://127.0.0.1:{server.server_port}/"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            text = posted.get(timeout=PATIENCE_S)
        finally:
            running.terminate()
            running.wait()
            server.shutdown()
    return {found["name"]: found for found in json.loads(text)}


def in_part(planes: list[NDArray[np.float64]]) -> bool:
    """Say whether the browser left the last rows empty: they show the paper."""
    return bool((planes[0][-1] == 255).all() and (planes[1][-1] == 0).all())


def on_papers(data: bytes) -> list[NDArray[np.float64]]:
    """Return the pixels of a file as it is read, on white and on black, (H, W, 3)."""
    picture = decode_picture(data, "it")
    rgb = colours_in_srgb(picture).astype(np.float64)
    opacity = 1.0 if picture.alpha is None else picture.alpha[..., None] / 255
    return [rgb * opacity + paper * (1 - opacity) for paper in (255, 0)]


def judge(data: bytes, shown: dict[str, Any]) -> dict[str, Any]:
    """Compare a file as it is read with what the browser shows."""
    theirs: list[NDArray[np.float64]] = []
    if "planes" in shown:
        size = (shown["height"], shown["width"], 4)
        theirs = [np.array(plane, np.float64).reshape(size)[..., :3] for plane in shown["planes"]]
    browser = "refuses" if not theirs else "shows in part" if in_part(theirs) else "shows"
    try:
        ours = on_papers(data)
    except ImageError as error:
        return {"browser": browser, "ours": f"refused: {error}", "agree": browser != "shows"}
    if not theirs or theirs[0].shape != ours[0].shape:
        return {"browser": browser, "ours": f"read {ours[0].shape[:2]}", "agree": not theirs}
    there = (theirs[0] != 255).any(axis=(1, 2)) | (theirs[1] != 0).any(axis=(1, 2))
    worst = max(float(np.abs(a - b)[there].max(initial=0)) for a, b in zip(ours, theirs, strict=True))
    return {"browser": browser, "ours": "read", "largest_difference": round(worst, 2), "agree": worst <= TOLERANCE}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--keep", type=Path, help="folder for the files")
    parser.add_argument("--out", type=Path, default=Path("results/browser.json"))
    options = parser.parse_args()
    files = dict(odd_files())
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (options.keep / name).write_bytes(data)
    shown = shown_by_browser(options.browser, files)
    found = {name: judge(data, shown[name]) for name, data in files.items()}
    wrong = {name: verdict for name, verdict in found.items() if not verdict["agree"] and name not in QUIRKS}
    version = subprocess.run([options.browser, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    write_atomic(
        options.out,
        (json.dumps({"browser": version, "files": found, "versions": versions("cpu")}, indent=2) + "\n").encode(),
    )
    for name, verdict in wrong.items():
        print(f"{name}: {verdict}")
    print(f"{len(files)} files, {len(wrong)} not as the browser shows them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
