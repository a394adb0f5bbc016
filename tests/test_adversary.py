"""The adversary stage of the inpainter's training: what the critic says, what the painter learns, what is written."""

import copy

import pytest
import torch
from tiny_training import IGNORED, noise_fields, tiny_examples, tiny_unet, trainer

from veil.training.adversary import TIMES, AdversarialTraining, reconstruction
from veil.training.callbacks import Keep
from veil.training.diffusion import new_scheduler

pytestmark = [pytest.mark.filterwarnings(message) for message in IGNORED]


@pytest.fixture
def unet():
    return tiny_unet()


@pytest.fixture
def kept(tmp_path):
    return noise_fields(tmp_path)


def adversary(unet, examples, **options):
    return AdversarialTraining(unet, new_scheduler(), examples, **options)


def test_the_painter_is_trained_at_the_times_of_a_sampler_of_four_steps():
    scheduler = new_scheduler()
    scheduler.set_timesteps(4)
    assert list(TIMES) == scheduler.timesteps.tolist()
    assert sum(TIMES.values()) == pytest.approx(1)


def test_the_adversarys_result_is_the_mean_of_the_weights_before_and_after(unet, kept, tmp_path):
    before = copy.deepcopy(unet.state_dict())
    data = tiny_examples(kept, tmp_path, batch=8)
    module = adversary(unet, torch.randn(6, 9, 8, 8), alone=2)
    heads = copy.deepcopy(module.critic.heads.state_dict())
    last = tmp_path / "last.ckpt"
    trainer(max_steps=2, max_epochs=-1, callbacks=[Keep(last, 60)]).fit(module, data)
    assert (module.batches, module.samples_seen) == (2, 0)
    assert all(torch.equal(value, before[name]) for name, value in module.painter.state_dict().items())
    assert not torch.equal(module.critic.heads.state_dict()["0.0.weight"], heads["0.0.weight"])
    again = adversary(copy.deepcopy(unet), torch.randn(6, 9, 8, 8), alone=2)
    trainer(max_steps=8, max_epochs=-1, callbacks=[Keep(last, 60)]).fit(again, data, ckpt_path=last, weights_only=False)
    assert (again.batches, again.samples_seen) == (5, 3 * 4)  # two optimisers step in each of the last three
    assert torch.equal(again.critic.scales[0].mean, module.critic.scales[0].mean)
    again.blend()
    moved = 0.0
    for name, value in again.unet.state_dict().items():
        torch.testing.assert_close(value, (before[name] + again.average.state_dict()[name]) / 2)
        assert torch.equal(again.critic.unet.state_dict()[name], before[name])
        moved += (value - before[name]).abs().sum().item()
    assert moved > 0
    assert torch.equal(unet.state_dict()["conv_in.weight"], before["conv_in.weight"])


def test_a_resumed_adversary_is_the_one_that_was_not_killed(unet, kept, tmp_path):
    ends, examples = [], torch.randn(6, 9, 8, 8)
    for name, stops in (("whole", [9]), ("parts", [5, 9])):
        last = tmp_path / name / "last.ckpt"
        for stop in stops:
            standard = torch.ones(6, 9, 8, 8) if last.exists() else examples  # the checkpoint holds what came of it
            module = adversary(copy.deepcopy(unet), standard, alone=1)
            trainer(max_steps=stop, max_epochs=-1, callbacks=[Keep(last, 60)]).fit(
                module,
                tiny_examples(kept, tmp_path / name, batch=8),
                ckpt_path=last if last.exists() else None,
                weights_only=False,
            )
        ends.append(module.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=0, msg=name)


def test_the_critics_gradient_is_as_long_as_the_reconstructions(unet):
    module = adversary(unet, torch.randn(6, 9, 8, 8))
    leaf = torch.randn(2, 4, 8, 8, requires_grad=True)
    seen = {}
    module._step = lambda number, loss, trained, gradient: seen.update(gradient=gradient)
    module._train_painter(leaf * 1, leaf, 3 * leaf.sum(), 1e-4 * leaf[:, :2].sum())
    close = torch.full((2, 4, 8, 8), 3.0)
    sharp = torch.cat([torch.full((2, 2, 8, 8), 3 * 2**0.5), torch.zeros(2, 2, 8, 8)], dim=1)
    torch.testing.assert_close(seen["gradient"], close + sharp)


def test_reconstruction_by_hand():
    examples = torch.zeros(1, 9, 2, 2)
    examples[:, 4, 0] = 1  # the upper half is masked
    painted = torch.zeros(1, 4, 2, 2)
    painted[..., 0, :] = 1
    painted[..., 1, :] = 2
    kept = torch.full((1, 1, 1, 1), 0.35)
    # smooth L1 with beta 0.1 of 1 is 0.95, where half is masked; outside, 4 in half of the places, a tenth of it
    assert reconstruction(painted, examples, kept).item() == pytest.approx(0.5 * 0.95 + 0.1 * 2)


def test_a_hinge_loss_by_hand(unet):
    critic = adversary(unet, torch.randn(6, 9, 8, 8)).critic
    mask = torch.zeros(1, 9, 8, 8)
    mask[:, 4, :4] = 1
    logits = torch.zeros(1, 1, 8, 8)
    logits[..., :4, :] = 0.5
    weight = mask[:, 4:5] + 0.1
    critic.logits = lambda *_: iter([(logits, weight / weight.mean())])
    times = torch.tensor([0])
    inside, outside = 1.1 / 0.6 / 2, 0.1 / 0.6 / 2
    assert critic.verdict([], mask, times, 1).item() == pytest.approx(0.5 * inside + 1.0 * outside)
    assert critic.verdict([], mask, times, -1).item() == pytest.approx(1.5 * inside + 1.0 * outside)
    assert critic.doubt([], mask, times).item() == pytest.approx(-0.5 * inside)
