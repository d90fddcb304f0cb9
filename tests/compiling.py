"""How toy runs compile: without dwelling on speed, since that costs more than what they run."""

import importlib.metadata

FLAGS = "--xla_backend_optimization_level=0"
# XLA ends the process at a flag that it does not know; this one is known to the versions below.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
