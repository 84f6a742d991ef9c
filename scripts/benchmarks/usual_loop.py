"""Train as CompressAI's examples/train.py does, until the time is out, for comparisons.

The loop trains in float32 and contiguous memory, by Adam at 1e-4 and an auxiliary Adam at 1e-3, with decode workers
that open a file for each crop and with gradients clipped to a norm of 1.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

RD_LAMBDA = 0.0130


class Folder(Dataset[Tensor]):
    """A data set like compressai's ImageFolder, for any folder; each item opens and decodes its file."""

    def __init__(self, paths: list[Path], crop: int) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [transforms.RandomCrop(crop, pad_if_needed=True, padding_mode="edge"), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(Image.open(self.paths[number]).convert("RGB"))


def usual_batches(paths: list[Path], batch: int, crop: int, workers: int) -> Iterable[Tensor]:
    """Yield batches endlessly, epoch after epoch."""
    loader = DataLoader(Folder(paths, crop), batch_size=batch, num_workers=workers, shuffle=True, drop_last=True)
    while True:
        yield from loader


def usual_training(
    net: nn.Module, batches: Iterable[Tensor], seconds: float, device: torch.device | str = "cpu"
) -> tuple[int, float]:
    """Train a model of compressai's zoo, and return the number of crops that it saw and the seconds that they took."""
    from compressai.losses import RateDistortionLoss
    from compressai.optimizers import net_aux_optimizer

    loss_of = RateDistortionLoss(lmbda=RD_LAMBDA)
    optimisers = net_aux_optimizer(net, {"net": {"type": "Adam", "lr": 1e-4}, "aux": {"type": "Adam", "lr": 1e-3}})
    net.train()
    start, crops = time.monotonic(), 0
    for cpu_batch in batches:
        batch = cpu_batch.to(device)
        optimisers["net"].zero_grad()
        optimisers["aux"].zero_grad()
        loss_of(net(batch), batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimisers["net"].step()
        net.aux_loss().backward()
        optimisers["aux"].step()
        crops += len(batch)
        if time.monotonic() - start > seconds:
            break
    if str(device) != "cpu":
        torch.cuda.synchronize()
    return crops, time.monotonic() - start
