"""What recognition looks at, what it answers, and how it asks for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engines.errors import ModelError
from engines.graph_trace import GraphTrace
from engines.model_file import ModelFile
from engines.model_spec import Family, Origin, TensorSpec

_STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True)
class Clues:
    """All that recognition may look at."""

    file: ModelFile
    outputs: tuple[TensorSpec, ...]
    """The file's outputs, with the dimensions that follow from the input size filled in."""
    width: int
    height: int
    class_count: int | None
    """How many classes metadata or an override name; None where nobody says."""
    trace: GraphTrace
    stated: Mapping[str, object]
    """The user's overrides."""

    def stated_family(self, *families: Family) -> bool:
        """Whether the user left the family open or stated one of ``families``."""
        return self.stated.get("family") in (None, *families)

    def settled(self, otherwise: Origin) -> Origin:
        """Return who settled the family: the user if they stated it."""
        return "override" if "family" in self.stated else otherwise

    def grid_of(self, candidates: int | None, anchors: int = 1) -> tuple[int, ...] | None:
        """Return the strides whose grids over the input hold ``candidates`` cells of ``anchors`` each."""
        stated = self.stated.get("strides")
        for strides in (stated,) if isinstance(stated, tuple) else _STRIDE_SETS:
            cells = sum(-(-self.width // stride) * -(-self.height // stride) for stride in strides)
            if candidates == anchors * cells:
                return strides
        return None

    def ask(self, fact: str, seen: str, wanted: str) -> ModelError:
        """Return what to raise where ``fact`` cannot be known."""
        return ModelError(
            f"model {self.file.path}: {fact} cannot be known: {seen}. "
            f"Say {wanted} in {self.file.path.with_suffix('.yaml').name} beside it."
        )


@dataclass(frozen=True)
class Match:
    """A recognised family."""

    family: Family
    classes: int | None
    """None where the outputs do not show how many there are."""
    origin: Origin
    """What settled the family."""
    has_nms: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where facts besides the family came from."""
