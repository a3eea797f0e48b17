"""Where to compute, and in which precision."""

import pytest
import torch

from malaria_diffusion.compute.device import multiplies_bfloat16, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"),
    [(True, True, "AMX"), (False, True, "AVX-512 BF16"), (True, False, "AMX"), (False, False, None)],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(monkeypatch, amx, avx512, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert multiplies_bfloat16() == expected
    assert resolve_precision("auto", CPU) is (torch.float32 if expected is None else torch.bfloat16)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(monkeypatch, name):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert resolve_precision(name, CPU) is getattr(torch, name)


def test_other_devices_without_bfloat16_take_float32():
    assert resolve_precision("auto", torch.device("mps")) is torch.float32
