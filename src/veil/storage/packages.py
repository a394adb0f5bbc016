"""Files that install with a package, Veil's own among them."""

import importlib.util
from pathlib import Path

PACKAGED = "package:"  # `package:face_diffusion` is the folder of that name beside the inpainters


def packaged_file(package: str, relative: str, distribution: str) -> Path:
    """A file or folder inside an installed package, found without importing the package.

    Raises FileNotFoundError that names the distribution to install.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0], relative) if folders else None
    if path is None or not path.exists():
        raise FileNotFoundError(f"{package}/{relative} is not installed; `pip install {distribution}` brings it")
    return path


def packaged_model(model: str) -> str:
    """The folder that `package:<name>` means; any other name is given back."""
    inpainters = Path(__file__).parents[1] / "inpainters"
    return str(inpainters / model.removeprefix(PACKAGED)) if model.startswith(PACKAGED) else model


def dlib_model(name: str) -> Path:
    """A model file that installs with `face-recognition-models`."""
    return packaged_file("face_recognition_models", f"models/{name}.dat", "face-recognition-models")
