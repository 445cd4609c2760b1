"""Which values of a mask mean *bad*: said once for each, never guessed."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_CONDITION = re.compile(r"(?P<name>.*?)\s*(?P<relation>==|!=)\s*(?P<value>-?\d+)\s*")


@dataclass(frozen=True)
class MaskConvention:
    """The polarity of a mask: which of its values mean that a pixel is bad.

    Parameters
    ----------
    relation
        "==" or "!=".
    value
        What the mask is compared with.
    meaning
        In words, where a standard or a program says it: "CXI bits, 0 = good".
    """

    relation: Literal["==", "!="]
    value: int
    meaning: str = field(default="", compare=False)

    def __call__(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where a mask says *bad*."""
        equal: NDArray[np.bool_] = mask == self.value
        return equal if self.relation == "==" else ~equal

    def __str__(self) -> str:
        """Return it as it is written after the name of a mask: `!= 0`."""
        return f"{self.relation} {self.value}"


NOT_ZERO = MaskConvention("!=", 0)
TRUE = MaskConvention("==", 1)
ONE = MaskConvention("!=", 0, "1 = bad")
CXI_BITS = MaskConvention("!=", 0, "CXI bits, 0 = good")
NEXUS_BITS = MaskConvention("!=", 0, "NeXus bits, 0 = good")
GOOD_PIXELS = MaskConvention("==", 0, "1 = good")
DRAGONFLY = MaskConvention(
    "==", 2, "Dragonfly: 0 = good, 1 = good but not for orientation, 2 = bad"
)


def split_condition(text: str) -> tuple[str, MaskConvention | None]:
    """Take `mask.npy == 0` apart into the name and the polarity, None if not said."""
    found = _CONDITION.fullmatch(text)
    if not found:
        return text, None
    relation: Literal["==", "!="] = "==" if found["relation"] == "==" else "!="
    return found["name"], MaskConvention(relation, int(found["value"]))
