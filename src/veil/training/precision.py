"""Bfloat16 where the processor computes in it; elsewhere it is emulated, ten times slower than float32."""

from contextlib import AbstractContextManager, nullcontext

import torch

INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")  # of x86, and of ARM


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; False for a CPU of which this torch cannot tell."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in INSTRUCTIONS)


def mixed_precision(device: torch.device, dtype: str) -> AbstractContextManager:
    """Inside, layers that allow it compute in bfloat16.

    Args:
        dtype: `bfloat16`, `float32` (as the surroundings say), or `auto`, bfloat16 where the device has it.

    """
    wanted = has_bfloat16(device) if dtype == "auto" else dtype == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()
