"""Measure how fast files are written and read, beside CompressAI's codecs on the same machine.

    python scripts/benchmarks/codec.py MODEL PICTURES [--out results/bench_codec.json] [--repeats 3] [--ours]

It times pixels to file and back on the CPU, warm, with 2 threads: medians over repeats of the mean over pictures.
CompressAI's models (N = 128) have random weights, because their time hardly depends on them. It also times the coder
alone, on the unskipped symbols of the highest quality, sorting and scattering included, on one thread. --ours leaves
CompressAI's models out.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from attncodec.coding.bottlenecks import BitCounter, EncodeBottleneck
from attncodec.coding.decoder import decompress
from attncodec.coding.encoder import PictureEncoder, Target, compress
from attncodec.coding.range_coder import SymbolReader, SymbolWriter
from attncodec.coding.sealed import SealedCodec, load_sealed
from attncodec.coding.tables import Symbols, TableIndex, TableSet
from attncodec.environment import versions
from attncodec.files import write_atomic
from attncodec.pictures import RGB, find_pictures, pad_edges, read_rgb, to_rgb, to_tensor

THREADS = 2
SERIAL_PICTURES = 2  # cheng2020-attn takes seconds a picture


def time_ours(codec: SealedCodec, quality: float, pictures: list[RGB], repeats: int) -> dict[str, float]:
    def encode(rgb: RGB) -> bytes:
        return compress(codec, rgb, Target(quality=quality))

    def decode(data: bytes) -> RGB:
        return decompress(codec, data)

    return timed(encode, decode, pictures, repeats)


def time_compressai(name: str, pictures: list[RGB], repeats: int) -> dict[str, float]:
    from compressai.zoo import image_models

    torch.manual_seed(0)
    net = image_models[name](quality=3).eval()
    net.update(force=True)

    def encode(rgb: RGB) -> tuple[dict[str, Any], tuple[int, ...]]:
        return net.compress(pad_edges(to_tensor(rgb), 64)), rgb.shape

    def decode(coded: tuple[dict[str, Any], tuple[int, ...]]) -> RGB:
        streams, (height, width, _) = coded
        return to_rgb(net.decompress(streams["strings"], streams["shape"])["x_hat"][..., :height, :width])

    return timed(encode, decode, pictures, repeats)


@torch.inference_mode()
def timed(
    encode: Callable[[RGB], Any], decode: Callable[[Any], RGB], pictures: list[RGB], repeats: int
) -> dict[str, float]:
    decode(encode(pictures[0]))
    encode_s, decode_s = [], []
    for _ in range(repeats):
        pairs = []
        for rgb in pictures:
            start = time.perf_counter()
            coded = encode(rgb)
            middle = time.perf_counter()
            decode(coded)
            pairs.append((middle - start, time.perf_counter() - middle))
        encode_s.append(fmean(pair[0] for pair in pairs))
        decode_s.append(fmean(pair[1] for pair in pairs))
    return {"encode_s": median(encode_s), "decode_s": median(decode_s), "pictures": len(pictures)}


class Recorder(BitCounter):
    """A bit counter that keeps the symbols that would be coded."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[tuple[TableSet, Symbols, TableIndex]] = []

    def put(self, tables: TableSet, symbols: Symbols, index: TableIndex) -> None:
        self.groups.append((tables, symbols, index))


def time_coder(codec: SealedCodec, rgb: RGB, repeats: int) -> dict[str, float]:
    """Measure how many millions of symbols a second the coder writes and reads."""
    torch.set_num_threads(1)
    encoder = PictureEncoder(codec, rgb)
    at = torch.tensor([codec.quality_indices[-1]])
    recorder = Recorder()
    with torch.inference_mode():
        bottleneck = EncodeBottleneck(recorder, codec.z_tables, codec.y_tables, 0)
        codec.codec.transmit(bottleneck, at, codec.codec.apply_gain(encoder.latents.y, at))
    count = sum(symbols.size for _, symbols, _ in recorder.groups)
    writing, reading = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        writer = SymbolWriter()
        for group in recorder.groups:
            writer.put(*group)
        data = writer.finish()
        middle = time.perf_counter()
        reader = SymbolReader(data)
        back = [reader.get(tables, index) for tables, _, index in recorder.groups]
        reading.append(time.perf_counter() - middle)
        writing.append(middle - start)
        assert all(np.array_equal(a, b) for a, (_, b, _) in zip(back, recorder.groups, strict=True))
    torch.set_num_threads(THREADS)
    return {
        "symbols": count,
        "encode_msymbols_s": count / median(writing) / 1e6,
        "decode_msymbols_s": count / median(reading) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/bench_codec.json"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    codec = load_sealed(options.model)
    pictures = [read_rgb(path) for path in find_pictures(options.pictures)]
    levels = len(codec.header.config.rd_lambdas)
    rows = {
        f"attncodec, quality {q}": time_ours(codec, q, pictures, options.repeats) for q in (1, min(4, levels), levels)
    }
    if not options.ours:
        rows["mbt2018-mean"] = time_compressai("mbt2018-mean", pictures, options.repeats)
        rows["cheng2020-attn"] = time_compressai("cheng2020-attn", pictures[:SERIAL_PICTURES], 1)
    result = {
        "rows": rows,
        "coder": time_coder(codec, pictures[0], 5),
        "decoder_id": codec.header.decoder_id.hex(),
        "pictures": options.pictures.resolve().name,
        "versions": {**versions("cpu"), "compressai": version("compressai")},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps({"rows": rows, "coder": result["coder"]}, indent=2))


if __name__ == "__main__":
    main()
