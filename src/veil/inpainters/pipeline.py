"""Find and load diffusers' pipelines."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoPipelineForInpainting, DiffusionPipeline
from httpx import HTTPError
from huggingface_hub import constants, model_info

from veil.errors import InputError
from veil.storage.packages import packaged_model

UNCHECKED = {"safety_checker": None, "requires_safety_checker": False}


def own_resolution(pipeline: DiffusionPipeline) -> int:
    """px, the side of the pictures the model was made for."""
    size = pipeline.unet.config.sample_size if getattr(pipeline, "unet", None) else pipeline.default_sample_size
    return size * pipeline.vae_scale_factor


def named_scheduler(name: str) -> Any:
    """Diffusers' scheduler class of that name. Raises InputError that lists what there is."""
    names = [known for known in dir(diffusers) if known.endswith("Scheduler") and known != "Scheduler"]
    if name not in names:
        raise InputError(f"inpainter.scheduler must be a scheduler class of diffusers, got {name!r}; one of {names}")
    return getattr(diffusers, name)


def load_pipeline(model: str, revision: str | None, variant: str | None, dtype: torch.dtype) -> DiffusionPipeline:
    """The inpainting pipeline of a folder, of the hub's cache, or of the hub.

    Without a safety checker: it blanks pictures it takes for indecent, which would pass for anonymised here.
    Raises FileNotFoundError where neither a folder nor the cache has the model and the hub cannot be reached.
    """
    model = packaged_model(model)
    source: dict[str, Any] = {"revision": revision, "local_files_only": True}
    try:
        config = DiffusionPipeline.load_config(model, **source)
    except OSError:
        source["local_files_only"] = False
        try:
            model_info(model, revision=revision, timeout=10)  # at once, where diffusers would try for a minute
            config = DiffusionPipeline.load_config(model, **source)
        except (HTTPError, OSError, ValueError) as error:
            raise FileNotFoundError(
                f"inpainter.model={model} is no diffusers folder, is not in the cache ({constants.HF_HUB_CACHE}), and "
                f"could not be downloaded ({type(error).__name__}: {error}). Give a local folder, or use the model "
                "that installs with Veil: inpainter=face_diffusion"
            ) from error
    own = getattr(diffusers, config["_class_name"])
    pipeline = own if "mask_image" in inspect.signature(own.__call__).parameters else AutoPipelineForInpainting
    known = inspect.signature(own.__init__).parameters
    without: dict[str, Any] = {
        name: None for name, part in config.items() if part in ([None, None], (None, None))
    }  # no text encoder
    without |= {name: value for name, value in UNCHECKED.items() if name in known}
    return pipeline.from_pretrained(model, variant=variant, dtype=dtype, **source, **without)


@contextmanager
def quiet() -> Iterator[None]:
    """Load without progress bars and remarks."""
    verbosity = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
            yield
    finally:
        diffusers.logging.set_verbosity(verbosity)
        diffusers.logging.enable_progress_bar()
        transformers.logging.enable_progress_bar()
