"""The head learns; the frozen trunk does not change by a bit."""

import json
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from conftest import TinyRecognizer
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from veil.config import Config
from veil.recognizers.embed import fingerprint
from veil.tasks.finetune import HeadTraining, clear_accuracy, finetune, quiet_lightning


def clusters(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors round five centres, overlapping."""
    generator = torch.Generator().manual_seed(9)
    centres = torch.randn(5, 16, generator=generator)
    identities = torch.arange(200) % 5
    noise = torch.randn(200, 16, generator=torch.Generator().manual_seed(seed))
    return F.normalize(centres[identities] + 1.2 * noise, dim=1), identities


@pytest.fixture
def fitted() -> tuple[HeadTraining, str]:
    quiet_lightning()
    trunk = TinyRecognizer()
    before = fingerprint(trunk)
    module = HeadTraining(trunk, 16, 5, learning_rate=0.1, weight_decay=0.0, epochs=30, batch_size=64, patience=30)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=30, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    train, validate = TensorDataset(*clusters(0)), TensorDataset(*clusters(1))
    shuffle = torch.Generator().manual_seed(0)
    trainer.fit(module, DataLoader(train, 64, shuffle=True, generator=shuffle), DataLoader(validate, 200))
    return module, before


def test_the_frozen_trunk_does_not_change_by_a_bit(fitted: tuple[HeadTraining, str]) -> None:
    module, before = fitted
    assert fingerprint(module.recognizer) == before
    module.train()
    assert not any(part.training for part in module.recognizer.modules())
    assert module.head.training
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert set(checkpoint["state_dict"]) == {"head.weight", "head.bias"}


def test_the_head_is_as_good_as_logistic_regression(fitted: tuple[HeadTraining, str]) -> None:
    module, _ = fitted
    reference = LogisticRegression(C=1e4, max_iter=1000).fit(*(part.numpy() for part in clusters(0)))
    held_out = clusters(2)
    expected = reference.score(*(part.numpy() for part in held_out))
    assert 0.6 < expected < 1
    assert clear_accuracy(module.head, *held_out).value == pytest.approx(expected, abs=0.05)


def test_finetune_trains_once_and_is_found_again(
    small_run: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run("task=finetune")
    folder = finetune(config)
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["metrics"]["clear/facenet/accuracy"]["value"] == 1
    assert figures["metrics"]["clear/facenet/accuracy"]["n"] == 12
    head = load_file(folder / "head.safetensors")
    assert head["weight"].shape == (6, 512)
    assert (folder / "curves" / "metrics.csv").exists()
    capsys.readouterr()
    stamp = (folder / "head.safetensors").stat().st_mtime_ns
    assert finetune(config) == folder
    assert "Found the finished run" in capsys.readouterr().out
    assert (folder / "head.safetensors").stat().st_mtime_ns == stamp
    again = load_file(finetune(small_run("task=finetune", outputs="elsewhere")) / "head.safetensors")
    assert all(torch.equal(head[name], again[name]) for name in head)
