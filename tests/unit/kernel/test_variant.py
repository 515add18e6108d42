"""Which kernel variant runs."""

import pytest

from whimbrel import kernel
from whimbrel.kernel import variant


def test_numpy_is_always_usable_and_the_last_resort():
    assert kernel.isas()[-1] == "numpy"
    assert len(set(kernel.isas())) == len(kernel.isas())


def test_the_fastest_variant_runs_by_default(monkeypatch):
    monkeypatch.delenv("WHIMBREL_KERNEL", raising=False)
    assert kernel.active_isa() == kernel.isas()[0]


@pytest.mark.parametrize("isa", kernel.isas())
def test_the_environment_forces_a_variant(monkeypatch, isa):
    monkeypatch.setenv("WHIMBREL_KERNEL", isa)
    assert kernel.active_isa() == isa


def test_a_variant_that_cannot_run_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("WHIMBREL_KERNEL", "abacus")
    with pytest.raises(ValueError, match="abacus"):
        kernel.active_isa()


def test_without_the_extension_numpy_does_everything(monkeypatch):
    monkeypatch.delenv("WHIMBREL_KERNEL", raising=False)
    monkeypatch.setattr(variant, "native", None)
    assert kernel.isas() == ("numpy",)
    assert kernel.active_isa() == "numpy"
