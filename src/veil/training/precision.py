"""Bfloat16 where the processor computes in it; elsewhere it is emulated, ten times slower than float32."""

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


def resolved(device: torch.device, dtype: str) -> str:
    """`bfloat16` or `float32`: itself, or for `auto` bfloat16 where the device has it."""
    if dtype == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    return dtype


def mixed_precision(device: torch.device, dtype: str) -> torch.autocast:
    """Inside, layers that allow it compute in bfloat16, or none does, whatever the surroundings say.

    Args:
        dtype: `bfloat16`, `float32` or `auto`, see `resolved`.

    """
    return torch.autocast(device.type, torch.bfloat16, enabled=resolved(device, dtype) == "bfloat16")
