from __future__ import annotations

import os

# Several torch processes share the cores of one machine; more threads than cores slow all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
