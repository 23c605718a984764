"""Plans for training large language models on sequences of wildly uneven length.

A `Planner` takes the lengths of a global batch and returns a `Plan`: micro-batches of groups of
ranks, and the sequences that each group works on.

>>> import lengthwise as lw
>>> planner = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", context="384k")
>>> plan = planner.plan([150_000, 8_000, 512, 512])
"""

from lengthwise._lengthwise import (
    Ahead,
    Choice,
    Explanation,
    Group,
    MicroBatch,
    Plan,
    Planner,
    Profile,
    RankWork,
    Rules,
    SimulatedMicroBatch,
    Simulation,
    Strategy,
    TokenBudget,
    __version__,
)
from lengthwise.errors import (
    InfeasibleError,
    InputError,
    InputTypeError,
    InternalError,
    LengthwiseError,
    RuleError,
)
from lengthwise.lengths import Lengths
from lengthwise.measurement import MeasuredGroup, Measurement

__all__ = [
    "Ahead",
    "Choice",
    "Explanation",
    "Group",
    "InfeasibleError",
    "InputError",
    "InputTypeError",
    "InternalError",
    "Lengths",
    "LengthwiseError",
    "MeasuredGroup",
    "Measurement",
    "MicroBatch",
    "Plan",
    "Planner",
    "Profile",
    "RankWork",
    "RuleError",
    "Rules",
    "SimulatedMicroBatch",
    "Simulation",
    "Strategy",
    "TokenBudget",
    "__version__",
]
