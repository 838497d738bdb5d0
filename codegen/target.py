"""The machine that code is generated for: facts that the emitter may use, and nothing else.

A `Target` is a value: tests invent hosts, `runtime.host` describes the real one. Its `key` is part of every
cache key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The feature that contracts pairs of bfloat16, by LLVM's name.
PAIRS = "avx512bf16"


@dataclass(frozen=True)
class Target:
    """cpu and features as LLVM names them; vector_bytes: width of a register; fma: fused multiply-add is an
    instruction."""

    cpu: str
    features: str
    vector_bytes: int
    fma: bool

    @property
    def key(self) -> str:
        """A text that differs wherever the generated code could."""
        return f"{self.cpu};{self.features};{self.vector_bytes};{self.fma}"

    @property
    def has_lane_masks(self) -> bool:
        """Whether loads and stores of some lanes are as fast as any."""
        return self.vector_bytes == 64

    @property
    def tile_columns(self) -> int:
        """Columns of the register tiles of a large contraction of float32."""
        return 32 if self.vector_bytes == 64 else 16

    def without(self, feature: str) -> Target:
        """The target taken not to have a feature."""
        listed = [f for f in self.features.split(",") if f != f"+{feature}"]
        return replace(self, features=",".join([*listed, f"-{feature}"]))

    def has(self, feature: str) -> bool:
        """Whether a feature, by LLVM's name, is there."""
        return f"+{feature}" in self.features.split(",")


#: The x86-64 levels of the psABI, by name; code for one runs on any CPU of that level or above.
LEVELS: dict[str, Target] = {
    "x86-64-v2": Target("x86-64-v2", "", 16, False),
    "x86-64-v3": Target("x86-64-v3", "", 32, True),
    "x86-64-v4": Target("x86-64-v4", "", 64, True),
}


def named_target(name: str) -> Target:
    """One of LEVELS. Raises ValueError, listing them, for any other name."""
    if name not in LEVELS:
        raise ValueError(f"unknown target {name!r}; the known ones are {', '.join(LEVELS)}")
    return LEVELS[name]
