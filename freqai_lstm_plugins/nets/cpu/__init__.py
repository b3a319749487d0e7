"""How recurrent layers run on a CPU: the door, and nobody goes past it.

`serves_windows` and `serves_rows` say whether torch's recurrent layers run by steps of our own
where the caller stands; `run_layers` and `last_states` then run them, with the same numbers but for
round-off, and `torch_layer` runs one by torch. `team` shares a training's batches among threads,
`in_threads` any parts, and `keep_memory` lets steps use the same memory again.
"""

from freqai_lstm_plugins.nets.cpu.engine import (
    has_cell,
    knows_layers,
    last_states,
    run_layers,
    serves_rows,
    serves_windows,
    torch_layer,
)
from freqai_lstm_plugins.nets.cpu.memory import keep_memory
from freqai_lstm_plugins.nets.cpu.threads import bounded, callers_threads, in_threads, team

__all__ = [
    "bounded",
    "callers_threads",
    "has_cell",
    "in_threads",
    "keep_memory",
    "knows_layers",
    "last_states",
    "run_layers",
    "serves_rows",
    "serves_windows",
    "team",
    "torch_layer",
]
