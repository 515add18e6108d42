"""Which variants of the kernels this machine can run, and which one runs.

`numpy` always can. The others are in the native extension, which is there when a C++ compiler was found at
installation; of those the extension itself reports the ones that this processor executes.
"""

import os
from dataclasses import dataclass
from types import ModuleType

try:
    from whimbrel.kernel import _native
except ImportError:  # installed without a compiler
    native: ModuleType | None = None
else:
    native = _native

# Asked for once, since every call of a kernel looks at them.
_NATIVE_ISAS: tuple[str, ...] = () if native is None else native.isas()

VARIABLE = "WHIMBREL_KERNEL"
NUMPY = "numpy"


@dataclass(frozen=True, slots=True)
class ExtensionBuild:
    """How the native extension was made.

    Attributes:
        compiler: its name and version, such as `GCC 12.2.0`, as the compiler itself says.
        python: the version of Python whose headers it was compiled against.
    """

    compiler: str
    python: str


def extension_build() -> ExtensionBuild | None:
    """Returns how the native extension was made, or None where there is none."""
    return None if native is None else ExtensionBuild(native.compiler.strip(), native.python)


def isas() -> tuple[str, ...]:
    """Returns the usable variants, fastest first; `numpy` is always the last."""
    return (*_NATIVE_ISAS, NUMPY) if native is not None else (NUMPY,)


def active_isa() -> str:
    """Returns the variant that runs when a call names none: `WHIMBREL_KERNEL`, else the fastest.

    Raises:
        ValueError: `WHIMBREL_KERNEL` names a variant that cannot run here.
    """
    return resolve(os.environ.get(VARIABLE) or None)


def resolve(isa: str | None) -> str:
    """Returns the variant asked for, or the fastest one for None.

    Raises:
        ValueError: the variant cannot run here.
    """
    usable = isas()
    if isa is None:
        return usable[0]
    if isa not in usable:
        raise ValueError(
            f"kernel variant is not usable here. isa=`{isa}` usable=`{' '.join(usable)}`"
        )
    return isa
