"""The adversary stage: a critic in the latents, which sharpens what the UNet paints in a few steps."""

import copy
import functools
from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers import EulerAncestralDiscreteScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from veil.training.diffusion import CLEAR_WEIGHT, LATENTS, Example, add_noise, signal, validation_losses, velocity
from veil.training.schedule import Counted, Draw, generator_of, mixed_precision, warm_average, warm_cosine

ADVERSARY_SHAPES = {"patches": 0.25, "blobs": 0.4, "boxes": 0.1, "face": 0.25}  # of masks in this stage
# Of a sampler of four steps, and how often each is trained; version 3 of face_diffusion was trained at 759 and 259.
TIMES = {999: 0.45, 749: 0.25, 499: 0.2, 249: 0.1}
SHOWN = 300  # latents are shown to the critic with the noise of a time below this
WIDTH = 64  # channels of the critic's heads
AVERAGE = 0.998  # of the painter's weights, exponential

Latents = Float[Tensor, "b 4 i j"]
Times = Int[Tensor, " b"]
Maps = list[Tensor]  # one `b c i j` a level


class Critic(nn.Module):
    """Tells latents of photos from painted ones: small heads on the features of a frozen UNet, one at each level.

    The features are those of a network that knows faces, so the heads learn in a minute (latent adversarial diffusion
    distillation, Sauer et al. 2024, arXiv:2403.12015; projected GANs, Sauer et al. 2021, arXiv:2111.01007).

    Args:
        unet: never trained here.
        examples: some photos, by whose features the heads' inputs are standardised once and for all.

    """

    signal: Tensor

    def __init__(self, unet: UNet2DConditionModel, noise_schedule: Tensor, examples: Example, dtype: str) -> None:
        super().__init__()
        self.unet, self.dtype_name = unet.eval().requires_grad_(False), dtype
        self.register_buffer("signal", noise_schedule, persistent=False)
        self.found: dict[int, Tensor] = {}  # level -> its features, from the last pass through the UNet
        for level, block in enumerate([*unet.down_blocks[1:-1], unet.mid_block, *unet.up_blocks]):
            block.register_forward_hook(functools.partial(self._keep, level))
        generator = generator_of(examples.device, 0, Draw.ADVERSARY)
        times = torch.randint(SHOWN, (len(examples),), generator=generator, device=examples.device)
        self.heads, self.scales = nn.ModuleList(), nn.ModuleList()
        with torch.no_grad():
            for features in self.features(examples[:, :LATENTS], examples, times, generator):
                self.scales.append(Standardised(features))
                self.heads.append(_head(features.shape[1] + 2, generator))

    def train(self, mode: bool = True) -> "Critic":
        """The UNet stays in eval mode."""
        super().train(mode)
        self.unet.eval()
        return self

    def _keep(self, level: int, _: nn.Module, __: Any, output: Tensor | tuple) -> None:
        self.found[level] = output[0] if isinstance(output, tuple) else output

    def features(self, latents: Latents, examples: Example, times: Times, generator: Generator) -> Maps:
        """Features of latents, noised for these times, in the place of those of the examples."""
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        noisy = add_noise(latents, noise, self.signal[times].view(-1, 1, 1, 1))
        velocity(self.unet, noisy, examples, times, self.dtype_name)
        return [self.found[level].float() for level in sorted(self.found)]

    def logits(self, features: Maps, examples: Example, times: Times) -> Iterator[tuple[Tensor, Tensor]]:
        """A map of logits at each level, above 0 where latents look like a photo's, and how much each place counts."""
        mask = examples[:, LATENTS : LATENTS + 1]
        for found, scale, head in zip(features, self.scales, self.heads, strict=True):
            hidden = F.adaptive_avg_pool2d(mask, (found.shape[-2], found.shape[-1]))
            when = (times / len(self.signal)).view(-1, 1, 1, 1).expand_as(hidden)
            with mixed_precision(found.device, self.dtype_name):
                logits = head(torch.cat([scale(found), hidden, when], dim=1))
            weight = hidden + CLEAR_WEIGHT
            yield logits.float(), weight / weight.mean()

    def verdict(self, features: Maps, examples: Example, times: Times, sign: float) -> Tensor:
        """Hinge loss of the heads: `sign` is 1 where the latents are photos' and -1 where they are painted."""
        terms = [(w * F.relu(1 - sign * logits)).mean() for logits, w in self.logits(features, examples, times)]
        return torch.stack(terms).mean()

    def doubt(self, features: Maps, examples: Example, times: Times) -> Tensor:
        """The painter's loss: low where painted latents pass for a photo's."""
        return -torch.stack([(w * logits).mean() for logits, w in self.logits(features, examples, times)]).mean()


class Standardised(nn.Module):
    """Features less the mean of some, over their deviation, each channel by itself."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Float[Tensor, "b c i j"]) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean((0, 2, 3), keepdim=True))
        self.register_buffer("deviation", features.std((0, 2, 3), keepdim=True).clamp_min(1e-3))

    def forward(self, features: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        """Standardise."""
        return (features - self.mean) / self.deviation


def _head(channels: int, generator: Generator) -> nn.Sequential:
    head = nn.Sequential(
        nn.Conv2d(channels, WIDTH, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 1, 1),
    )
    for name, weights in head.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(weights, 0.2, generator=generator)
        else:
            nn.init.zeros_(weights)
    return head


def reconstruction(painted: Latents, examples: Example, kept: Tensor) -> Tensor:
    """How far painted latents are from the photo's: inside the mask less where there was only noise to go by."""
    latents, mask = examples[:, :LATENTS], examples[:, LATENTS : LATENTS + 1]
    error = F.smooth_l1_loss(painted, latents, reduction="none", beta=0.1) * mask
    error = error.mean((1, 2, 3)) / mask.mean((1, 2, 3)).clamp_min(0.02)
    clear = ((painted - latents).square() * (1 - mask)).mean()
    return ((0.15 + kept.flatten()).clamp_max(1) * error).mean() + CLEAR_WEIGHT * clear


class AdversarialTraining(Counted):
    """Trains a copy of the UNet, the painter, against a `Critic`, then goes half-way back.

    The painter predicts clean latents from the times of a sampler of four steps; the gradient of the critic is scaled
    to the length of the reconstruction's. `unet` is the mean of the weights before and of the average after (Wortsman
    et al. 2022, arXiv:2109.01903): sharper than before, more varied than after.

    A batch is two draws in one: the first half is painted, the second half shows the critic photos. `samples_seen`
    counts what the painter was trained on.

    Args:
        unet: the diffusion stage's; it is copied.
        examples: some of the training's, see `Critic`.
        alone: batches in which only the critic's heads are trained, before the painter joins.
        rate, heads_rate: of the painter, and of the heads.

    """

    signal: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: EulerAncestralDiscreteScheduler,
        examples: Example,
        alone: int = 300,
        rate: float = 1e-4,
        heads_rate: float = 2e-3,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.register_buffer("signal", signal(scheduler), persistent=False)
        unet = unet.float().to(memory_format=torch.channels_last)
        self.painter = copy.deepcopy(unet).requires_grad_(True).train()
        self.average = copy.deepcopy(unet).requires_grad_(False).eval()
        self.unet = copy.deepcopy(self.average)
        self.critic = Critic(copy.deepcopy(unet), self.signal, examples, dtype)
        self.alone, self.rate, self.heads_rate = alone, rate, heads_rate
        self.dtype_name, self.seed = dtype, seed

    def training_step(self, batch: Example, _: int) -> None:
        examples, photos = batch.chunk(2)
        generator = generator_of(self.device, self.seed, Draw.ADVERSARY, self.batches)
        shown = torch.randint(SHOWN, (len(photos),), generator=generator, device=self.device)
        joint = self.batches >= self.alone
        with torch.set_grad_enabled(joint):
            painted, kept = self._paint(examples, generator)
        leaf = painted.detach().requires_grad_(joint)
        mask = examples[:, LATENTS : LATENTS + 1]
        with torch.no_grad():
            real = self.critic.features(photos[:, :LATENTS], photos, shown, generator)
        with torch.set_grad_enabled(joint):
            result = examples[:, :LATENTS] * (1 - mask) + leaf * mask
            fake = self.critic.features(result, examples, shown, generator)
        told = self.critic.verdict(real, photos, shown, 1) + self.critic.verdict(
            [found.detach() for found in fake], examples, shown, -1
        )
        self._step(1, told, self.critic.heads)
        self.log("train/hinge", told)
        if joint:
            rebuilt = reconstruction(leaf, examples, kept)
            self._train_painter(painted, leaf, rebuilt, self.critic.doubt(fake, examples, shown))
            self.log("train/rebuilt", rebuilt)
            self.samples_seen += len(examples)
        self.batches += 1

    def _paint(self, examples: Example, generator: Generator) -> tuple[Latents, Tensor]:
        """Clean latents that the painter predicts from noised ones, and the share of signal that it saw."""
        shares = torch.tensor(list(TIMES.values()), device=self.device)
        chosen = torch.multinomial(shares, len(examples), replacement=True, generator=generator)
        times = torch.tensor(list(TIMES), device=self.device)[chosen]
        kept = self.signal[times].view(-1, 1, 1, 1)
        noise = torch.randn(examples[:, :LATENTS].shape, generator=generator, device=self.device)
        noisy = add_noise(examples[:, :LATENTS], noise, kept)
        predicted = velocity(self.painter, noisy, examples, times, self.dtype_name)
        return kept.sqrt() * noisy - (1 - kept).sqrt() * predicted, kept

    def _train_painter(self, painted: Latents, leaf: Latents, rebuilt: Tensor, doubt: Tensor) -> None:
        (sharp,), (close,) = torch.autograd.grad(doubt, leaf), torch.autograd.grad(rebuilt, leaf)
        self._step(0, painted, self.painter, close + sharp * close.norm() / sharp.norm().clamp_min(1e-12))
        averages, current = list(self.average.parameters()), list(self.painter.parameters())
        warm_average(AVERAGE)(averages, current, self.batches - self.alone)

    def _step(self, number: int, loss: Tensor, trained: nn.Module, gradient: Tensor | None = None) -> None:
        """Step of an optimiser by the gradient of a loss, or by one that is given for each of the loss's values."""
        optimizer = cast(list[LightningOptimizer], self.optimizers())[number]
        schedule = cast(list[LRScheduler], self.lr_schedulers())[number]
        optimizer.zero_grad()
        self.manual_backward(loss, gradient)
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    def blend(self) -> None:
        """Set `unet` to the mean of the weights before and of their average after; each validation does, first."""
        with torch.no_grad():
            for mean, before, after in zip(
                self.unet.parameters(), self.critic.unet.parameters(), self.average.parameters(), strict=True
            ):
                mean.copy_((before + after) / 2)

    def on_validation_start(self) -> None:
        self.blend()

    def validation_step(self, examples: Example, index: int) -> None:
        loss = validation_losses(self.unet, self.signal, examples, index, self.dtype_name).mean()
        self.log("val/loss", loss, batch_size=len(examples))

    def configure_optimizers(self) -> tuple[list, list]:
        """The painter's and the heads'."""
        painter = torch.optim.Adam(self.painter.parameters(), self.rate, betas=(0.0, 0.99))
        heads = torch.optim.Adam(self.critic.heads.parameters(), self.heads_rate, betas=(0.0, 0.99))
        return [painter, heads], [warm_cosine(painter, 200, None), warm_cosine(heads, 100, None)]
