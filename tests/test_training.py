"""Training of the face inpainter: what is fed, what is minimised, what is kept."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, UNet2DConditionModel
from pytorch_lightning.callbacks import Timer
from tiny_training import CPU, IGNORED, SIZE, noise_fields, tiny_autoencoder, tiny_examples, tiny_unet, trainer

from veil.errors import InputError
from veil.inpainters.diffusion import DiffusionInpainter
from veil.training.autoencoder import AutoencoderTraining, photo_variants, whiten
from veil.training.callbacks import Average, Keep, Pace
from veil.training.data import TrainingData, split_fields, write_fields, write_middles
from veil.training.diffusion import (
    DiffusionTraining,
    encode_examples,
    field_masks,
    new_scheduler,
    signal,
    velocity_losses,
    write_model,
)  # fmt: skip
from veil.training.examples import KEPT, Drawing, Examples, Fresh, Shards
from veil.training.jitter import middle
from veil.training.masks import draw_masks
from veil.training.schedule import by_steps, generator_of, has_bfloat16, mixed_precision, warm_average, warm_cosine
from veil.types import Faces

pytestmark = [pytest.mark.filterwarnings(message) for message in IGNORED]


@pytest.fixture
def autoencoder():
    return tiny_autoencoder()


@pytest.fixture
def unet():
    return tiny_unet()


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
    squares = crops.mul(255).round().byte().permute(0, 2, 3, 1).numpy()[:, 8:-8, 8:-8]
    write_fields(squares, 2, tmp_path / "fields.npy", SIZE)
    cut = middle(torch.from_numpy(np.load(tmp_path / "fields.npy")))
    expected = encode_examples(autoencoder, cut, field_masks(masks, SIZE))
    torch.testing.assert_close(seen[0][:, 4:], expected[:, 4:], atol=0.02, rtol=0)  # 8 bits, fp16


def test_noise_ends_at_zero_signal_as_the_sampler_has_it():
    scheduler = new_scheduler()
    assert isinstance(scheduler, EulerAncestralDiscreteScheduler)
    assert torch.equal(
        scheduler.alphas_cumprod, DPMSolverMultistepScheduler.from_config(scheduler.config).alphas_cumprod
    )
    scheduler.set_timesteps(8)
    assert scheduler.timesteps[0] == 999
    assert signal(scheduler)[-1] == 0
    assert (signal(scheduler).diff() < 0).all()


def test_the_loss_is_zero_for_the_true_velocity_and_heavier_inside_the_mask(unet):
    module = DiffusionTraining(unet, new_scheduler())
    examples = torch.zeros(3, 9, 8, 8)
    examples[:, 4, :4] = 1
    times, noise = torch.tensor([0, 500, 999]), torch.randn(3, 4, 8, 8)
    velocity = module.signal[times].sqrt().view(-1, 1, 1, 1) * noise  # of latents that are zero

    def answer(found):
        module.unet.forward = lambda *_: SimpleNamespace(sample=found)

    answer(velocity)
    assert velocity_losses(module.unet, module.signal, examples, times, noise).tolist() == [0, 0, 0]
    errors = []
    for rows in (slice(0, 4), slice(4, 8)):
        wrong = velocity.clone()
        wrong[:, :, rows] += 1
        answer(wrong)
        errors.append(velocity_losses(module.unet, module.signal, examples, times, noise))
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


@pytest.mark.parametrize("falls", [True, False])
def test_learning_rate_warms_up_and_falls_only_where_it_is_told_how_far_it_is(falls):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = warm_cosine(optimizer, 10, by_steps(100, warm_up=10) if falls else None)["scheduler"]
    rates = []
    for _ in range(150):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1)
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.55 if falls else 1)
    assert rates[100:] == pytest.approx([0.1 if falls else 1] * 50)


def test_the_average_of_weights_forgets_the_first_steps():
    averages = [torch.zeros(2)]
    warm_average(0.5)(averages, [torch.ones(2)], 1)
    assert averages[0].tolist() == pytest.approx([1 - 2 / 11] * 2)
    warm_average(0.5)(averages, [torch.zeros(2)], 1000)
    assert averages[0].tolist() == pytest.approx([(1 - 2 / 11) / 2] * 2)


def test_draws_of_different_numbers_differ():
    cases = [(0,), (0, 0), (0, 1), (1, 0), (0, 2), (0, 5), (0, 5, 0, 0)]
    drawn = {torch.rand((), generator=generator_of(CPU, *numbers)).item() for numbers in cases}
    assert len(drawn) == len(cases)


def test_bfloat16_only_where_the_processor_has_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    assert not has_bfloat16(CPU)
    with mixed_precision(CPU, "auto"):
        assert not torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert has_bfloat16(CPU)
    with mixed_precision(CPU, "auto"):
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", torch.bfloat16), mixed_precision(CPU, "float32"):
        assert not torch.is_autocast_enabled("cpu")


@pytest.fixture
def kept(tmp_path):
    return noise_fields(tmp_path)


def test_fields_are_kept_with_room_and_as_many_as_there_are(tmp_path):
    square = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    write_fields([square, square], 3, tmp_path / "fields.npy", SIZE)
    found = np.load(tmp_path / "fields.npy")
    assert found.shape == (2, 40, 40, 3)
    assert np.array_equal(found[1], square)
    assert [path.name for path in tmp_path.iterdir()] == ["fields.npy"]


def test_fields_are_divided_as_they_are_and_whole_or_not(kept, tmp_path):
    path = tmp_path / "some.npy"
    write_middles(kept, np.array([3, 1]), path)
    found = np.load(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.load(kept)[[3, 1], 4:-4, 4:-4])
    assert not list(tmp_path.glob(".*partial*"))
    write_middles(kept, np.array([2]), path)  # is there
    assert np.array_equal(np.load(path), found)


def test_no_field_is_trained_on_and_held_out(kept):
    train, held_out = split_fields(kept, 5, seed=0)
    assert sorted([*train, *held_out]) == list(range(20))
    with pytest.raises(InputError, match=r"task.held_out.*below 20, got 20"):
        split_fields(kept, 20, seed=0)


def test_shards_are_used_a_few_times_and_the_oldest_dropped(autoencoder, kept, tmp_path):
    drawing, rows, folder = Drawing(kept, autoencoder), np.arange(3, 20), tmp_path / "shards"
    shards = Shards(drawing, rows, batch=4, shard=8, reuse=2, folder=folder, rank=0, first=0)
    stream = iter(shards)
    batches = [next(stream) for _ in range(4 * KEPT + 5)]  # four batches a shard
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"8-float32-{number:06d}.npy" for number in range(2, KEPT + 2)]
    first = np.load(folder / "8-float32-000002.npy")
    assert first.shape == (8, 9, 8, 8)
    assert all(
        any(np.array_equal(example, one) for path in folder.iterdir() for one in np.load(path))
        for example in batches[-1].half().numpy()
    )
    again = iter(Shards(drawing, rows, 4, 8, 2, folder, rank=0, first=4 * KEPT + 4))
    assert torch.equal(next(again), batches[-1])
    other = iter(Shards(drawing, rows, 4, 8, 2, tmp_path / "other", rank=0, first=3))
    assert torch.equal(next(other), batches[3])


def test_fresh_batches_are_the_same_whenever_they_are_drawn(autoencoder, kept):
    drawing = Drawing(kept, autoencoder, seed=3)
    stream = iter(Fresh(drawing, np.arange(20), 4, CPU, rank=0, first=0))
    batches = [next(stream) for _ in range(3)]
    assert batches[0].shape == (4, 9, 8, 8)
    assert torch.equal(next(iter(Fresh(drawing, np.arange(20), 4, CPU, rank=0, first=2))), batches[2])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(next(iter(Fresh(drawing, np.arange(20), 4, CPU, rank=1, first=0))), batches[0])


def test_examples_of_another_dtype_are_not_taken(autoencoder, kept, tmp_path):
    for dtype in ("float32", "bfloat16"):
        data = Examples(Drawing(kept, autoencoder, dtype=dtype), *split_fields(kept, 4, 0), 4, 8, 2, tmp_path)
        data.prepare_data()
        next(iter(Shards(data.drawing, data.train, 4, 8, 2, tmp_path / "shards", rank=0, first=0)))
    names = [f"validation-{dtype}.npy" for dtype in ("bfloat16", "float32")]
    assert sorted(path.name for path in tmp_path.glob("validation*")) == names
    shards = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert shards == ["8-bfloat16-000000.npy", "8-float32-000000.npy"]


def diffusion(kept, folder, steps, resumed=None):
    """A module that was trained to so many steps, and the path of its checkpoint."""
    module = DiffusionTraining(tiny_unet(), new_scheduler(), samples_seen=100)
    last = folder / f"{steps}.ckpt"
    trainer(max_steps=steps, max_epochs=-1, callbacks=[Average(0.9), Keep(last, 60)]).fit(
        module, tiny_examples(kept, folder), ckpt_path=resumed, weights_only=False
    )
    return module, torch.load(last, weights_only=False)


def test_a_resumed_run_is_the_run_that_was_not_killed(kept, tmp_path):
    _, whole = diffusion(kept, tmp_path / "whole", 7)
    diffusion(kept, tmp_path / "parts", 3)
    module, parts = diffusion(kept, tmp_path / "parts", 7, tmp_path / "parts" / "3.ckpt")
    assert parts["samples_seen"] == whole["samples_seen"] == 128
    assert parts["batches"] == whole["batches"] == 7
    for weights in ("state_dict", "current_model_state"):
        for name, value in whole[weights].items():
            torch.testing.assert_close(parts[weights][name], value, rtol=0, atol=0, msg=f"{weights} {name}")
    name = "unet.conv_in.weight"
    assert not torch.equal(parts["state_dict"][name], parts["current_model_state"][name])
    assert torch.equal(module.state_dict()[name], parts["current_model_state"][name])


def test_the_clock_stops_training_and_is_not_wound_up_by_a_resumption(kept, tmp_path):
    lines = []
    for _ in range(2):
        clock = Timer({"seconds": 1}, verbose=False)
        module = DiffusionTraining(tiny_unet(), new_scheduler())
        last = tmp_path / "last.ckpt"
        trainer(max_steps=-1, max_epochs=-1, callbacks=[Pace(lines.append, "first"), clock, Keep(last, 60)]).fit(
            module, tiny_examples(kept, tmp_path), ckpt_path=last if last.exists() else None, weights_only=False
        )
        assert module.batches > 0
        lines.append(module.batches)
    done = [line for line in lines if isinstance(line, int)]
    assert done[0] == done[1]
    expected = f"first: batch {done[0]}, {4 * done[0]:,} examples seen"
    assert any(expected in line for line in lines if isinstance(line, str))
    assert clock.time_elapsed() >= 1


def test_the_written_model_names_its_sampler_and_no_path(autoencoder, unet, tmp_path):
    write_model(copy.deepcopy(autoencoder), copy.deepcopy(unet), tmp_path / "first")
    loaded = (
        AutoencoderKL.from_pretrained(tmp_path / "first", subfolder="vae"),
        UNet2DConditionModel.from_pretrained(tmp_path / "first", subfolder="unet"),
    )
    for _ in range(2):  # a second writing replaces the first
        write_model(*loaded, tmp_path / "second")
    texts = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.json")}
    assert len(texts) == 8
    assert not any("_name_or_path" in text or str(tmp_path) in text for text in texts.values())
    settings = json.loads(texts["second/scheduler/scheduler_config.json"])
    expected = {
        "_class_name": "EulerAncestralDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing", "steps_offset": 1, "num_train_timesteps": 1000,
    }  # fmt: skip
    assert settings | expected == settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_the_autoencoder_runs(autoencoder, tmp_path):
    noise_fields(tmp_path, side=SIZE)
    before = copy.deepcopy(autoencoder.state_dict())
    data = TrainingData(lambda: None, [tmp_path / "fields.npy"], [tmp_path / "fields.npy"], batch_size=8)
    trainer(max_steps=2).fit(AutoencoderTraining(autoencoder, None, steps=2, crop=16), data)
    assert not torch.equal(autoencoder.state_dict()["encoder.conv_in.weight"], before["encoder.conv_in.weight"])


def test_the_encoder_can_be_kept(autoencoder, tmp_path):
    noise_fields(tmp_path, count=8, side=SIZE)
    before = copy.deepcopy(autoencoder.state_dict())
    data = TrainingData(lambda: None, [tmp_path / "fields.npy"], [tmp_path / "fields.npy"], batch_size=8)
    trainer(max_steps=2).fit(AutoencoderTraining(autoencoder, None, steps=2, decoder_only=True, crop=16), data)
    changed = {name.split(".")[0] for name, value in autoencoder.state_dict().items() if not value.equal(before[name])}
    assert changed == {"decoder", "post_quant_conv"}
