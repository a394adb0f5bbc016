"""Weight files as people have them: wrapped, pickled whole, cut off."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from veil.errors import InputError
from veil.recognizers.facenet import FaceNet
from veil.recognizers.local import Local
from veil.recognizers.weights import read_state, write_state

SETTINGS = {"architecture": "resnet18", "embedding": 8, "input_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(num_classes=8).eval()


@pytest.mark.parametrize("form", ["parallel", "parallel.safetensors", "lightning", "tutorial"])
def test_what_training_loops_put_round_a_state_dict_is_taken_off(network: nn.Module, tmp_path: Path, form: str) -> None:
    parallel = nn.DataParallel(network).state_dict()
    path = tmp_path / (form if form.endswith("safetensors") else f"{form}.pt")
    if form == "parallel.safetensors":
        write_state(parallel, path)
    else:
        wrapped = {"lightning": {"state_dict": parallel, "epoch": 3}, "tutorial": {"model_state_dict": parallel}}
        torch.save(wrapped.get(form, parallel), path)
    images = torch.rand(2, 3, 64, 64)
    read = Local(str(path), **SETTINGS)
    expected = Local(str(saved(network, tmp_path)), **SETTINGS)(images)
    assert torch.equal(read(images), expected)


def saved(network: nn.Module, folder: Path) -> Path:
    torch.save(network.state_dict(), folder / "plain.pt")
    return folder / "plain.pt"


def test_one_module_of_that_name_keeps_it(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "a.pt")
    assert set(read_state(tmp_path / "a.pt")) == {"module.weight", "bias"}


def test_a_whole_pickled_model_is_refused_with_the_reason(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network, tmp_path / "whole.pt")
    with pytest.raises(InputError) as caught:
        Local(str(tmp_path / "whole.pt"), **SETTINGS)
    told = str(caught.value)
    assert "whole.pt holds a whole pickled object (torchvision.models.resnet.ResNet), not a state dict" in told
    assert "save model.state_dict()" in told
    assert "weights_only" not in told  # torch's own advice is to trust the file


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named(network: nn.Module, tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pt":
        torch.save(network.state_dict(), path)
    else:
        write_state(network.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        InputError, match=rf"weights: .*cut{suffix} \({int(share * len(whole))} bytes\) is cut off, dam"
    ):
        read_state(path)


def test_what_is_no_state_dict_is_refused(tmp_path: Path, cache: str) -> None:
    torch.save({"epoch": 3, "note": "x"}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"recognizer\.weights: .*other\.pt must hold a state dict.*\['epoch', "):
        FaceNet(str(tmp_path / "other.pt"), cache)
    torch.save({"last_bn.weight": torch.ones(3)}, tmp_path / "few.pt")
    with pytest.raises(InputError, match=r"few\.pt are not of facenet-pytorch's .* missing; .* and \d+ more$"):
        FaceNet(str(tmp_path / "few.pt"), cache)
