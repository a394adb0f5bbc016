"""Training of the face inpainter: what is fed, what is minimised, what is kept."""

import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from diffusers import DPMSolverMultistepScheduler

from veil.inpainters.diffusion import DiffusionInpainter
from veil.training.autoencoder import AutoencoderTraining, new_autoencoder, photo_variants, warm_cosine, whiten
from veil.training.data import Rows, TrainingData, write_fields, write_shards
from veil.training.diffusion import (
    DiffusionTraining,
    encode_examples,
    field_masks,
    new_scheduler,
    new_unet,
    signal,
    write_model,
)  # fmt: skip
from veil.training.masks import draw_masks
from veil.types import Faces

SIZE = 32  # px of these tests' fields

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),  # diffusers' schedulers
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),  # Lightning's use of torch's pytree
    pytest.mark.filterwarnings("ignore:.*dataloader is not resumable"),  # a resumed run draws its rows anew
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning's advice: these data are tiny
]


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    return new_autoencoder((8, 8, 8), size=SIZE).eval()


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return new_unet((8, 16), size=SIZE // 4)


@pytest.fixture
def fields():
    return torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_whitening_changes_the_latents_and_not_the_pictures(autoencoder, fields):
    before = autoencoder.decode(autoencoder.encode(fields * 2 - 1).latent_dist.mode()).sample
    whiten(autoencoder, fields)
    posterior = autoencoder.encode(fields * 2 - 1).latent_dist
    torch.testing.assert_close(autoencoder.decode(posterior.mode()).sample, before, atol=1e-3, rtol=1e-3)
    flat = posterior.mode().transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(flat), torch.eye(4), atol=1e-2, rtol=0)
    torch.testing.assert_close(flat.mean(dim=1), torch.zeros(4), atol=1e-2, rtol=0)
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.01))


def test_examples_are_what_the_pipeline_feeds_its_unet(autoencoder, unet, tmp_path):
    """The nine channels of training and of `DiffusionInpainter` agree, but for the noise on the first four."""
    autoencoder.quant_conv.weight.data[4:] = 0
    autoencoder.quant_conv.bias.data[4:] = -30  # no spread: the pipeline samples from the posterior
    write_model(copy.deepcopy(autoencoder), unet, tmp_path)
    inpainter = DiffusionInpainter(str(tmp_path), steps=1)
    crops = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    masks = draw_masks(2, torch.Generator().manual_seed(3))
    seen = []
    inpainter.pipeline.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    inpainter(Faces(crops, torch.zeros(2).long(), torch.arange(2), ("a", "b")), masks)
    write_fields([crops], 2, tmp_path / "fields.npy", SIZE)
    cut = torch.stack([row for row in Rows([tmp_path / "fields.npy"])])
    expected = encode_examples(autoencoder, cut, field_masks(masks, SIZE))
    torch.testing.assert_close(seen[0][:, 4:], expected[:, 4:], atol=0.02, rtol=0)  # 8 bits, fp16


def test_noise_ends_at_zero_signal_as_the_sampler_has_it():
    scheduler = new_scheduler()
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    scheduler.set_timesteps(12)
    assert scheduler.timesteps[0] == 999
    assert signal(scheduler)[-1] == 0
    assert (signal(scheduler).diff() < 0).all()


def test_the_loss_is_zero_for_the_true_velocity_and_heavier_inside_the_mask(unet):
    module = DiffusionTraining(unet, new_scheduler(), steps=10)
    examples = torch.zeros(3, 9, 8, 8)
    examples[:, 4, :4] = 1
    times, noise = torch.tensor([0, 500, 999]), torch.randn(3, 4, 8, 8)
    velocity = module.signal[times].sqrt().view(-1, 1, 1, 1) * noise  # of latents that are zero

    class Fixed(torch.nn.Module):
        config = unet.config

        def forward(self, *_):
            return type("Output", (), {"sample": self.answer})

    module.unet = Fixed()
    module.unet.answer = velocity
    assert module.loss(examples, times, noise).tolist() == [0, 0, 0]
    errors = []
    for rows in (slice(0, 4), slice(4, 8)):
        module.unet.answer = velocity.clone()
        module.unet.answer[:, :, rows] += 1
        errors.append(module.loss(examples, times, noise))
    torch.testing.assert_close(errors[0], 10 * errors[1])
    assert errors[0][0] < errors[0][2]  # little is asked where little noise is left


def test_grey_and_flipped_photos(fields):
    torch.manual_seed(0)
    many = fields[:1].repeat(400, 1, 1, 1)
    variants = photo_variants(many, grey=0.3)
    grey = variants.diff(dim=1).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert grey.float().mean() == pytest.approx(0.3, abs=0.07)
    same = (variants[~grey] == many[~grey]).all(dim=(1, 2, 3))
    assert same.float().mean() == pytest.approx(0.5, abs=0.08)
    assert torch.equal(variants[~grey][~same][0], many[0].flip(-1))


def test_learning_rate_warms_up_and_falls_to_a_tenth():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = warm_cosine(optimizer, warm_up=10, steps=100)["scheduler"]
    rates = []
    for _ in range(150):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1)
    assert rates[10] == pytest.approx(1)
    assert rates[100:] == pytest.approx([0.1] * 50)


def test_both_stages_run_and_go_on_from_a_checkpoint(autoencoder, unet, fields, tmp_path):
    write_fields([torch.rand(20, 3, 256, 256)], 20, tmp_path / "fields.npy", SIZE)
    stage = AutoencoderTraining(autoencoder, None, steps=2, crop=16)
    data = TrainingData(lambda: None, [tmp_path / "fields.npy"], [tmp_path / "fields.npy"], batch_size=8)
    trainer(max_steps=2).fit(stage, data)
    shards = [tmp_path / "a.npy", tmp_path / "b.npy"]
    write_shards(stage.autoencoder.eval(), tmp_path / "fields.npy", np.arange(20), shards, seed=0)
    assert np.load(shards[0]).shape == (20, 9, SIZE // 4, SIZE // 4)
    assert not np.array_equal(np.load(shards[0])[:, 4], np.load(shards[1])[:, 4])
    module = DiffusionTraining(unet, new_scheduler(), steps=4, samples_seen=100)
    data = TrainingData(lambda: None, shards, [shards[0]], batch_size=8)
    first = trainer(max_steps=2)
    first.fit(module, data)
    first.save_checkpoint(tmp_path / "last.ckpt")
    assert module.samples_seen == 116
    again = DiffusionTraining(new_unet((8, 16), size=8), new_scheduler(), steps=4)
    trainer(max_steps=4).fit(again, data, ckpt_path=tmp_path / "last.ckpt", weights_only=False)
    assert again.samples_seen == 132


def test_the_encoder_can_be_kept(autoencoder, tmp_path):
    write_fields([torch.rand(8, 3, 256, 256)], 8, tmp_path / "fields.npy", SIZE)
    before = copy.deepcopy(autoencoder.state_dict())
    data = TrainingData(lambda: None, [tmp_path / "fields.npy"], [tmp_path / "fields.npy"], batch_size=8)
    trainer(max_steps=2).fit(AutoencoderTraining(autoencoder, None, steps=2, decoder_only=True, crop=16), data)
    changed = {name.split(".")[0] for name, value in autoencoder.state_dict().items() if not value.equal(before[name])}
    assert changed == {"decoder", "post_quant_conv"}


def trainer(**options):
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, check_val_every_n_epoch=None, val_check_interval=2, num_sanity_val_steps=0,
        **options,
    )  # fmt: skip
