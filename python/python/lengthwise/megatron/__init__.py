"""Plans of Lengthwise in the place of Megatron-Core's dynamic context parallelism.

Megatron-Core, Megatron-Bridge and verl ask one class, ``DefaultDynamicCPScheduler``, which
sequences go to which ranks. `install` puts a subclass in its place, in every process that trains:

>>> import lengthwise.megatron
>>> lengthwise.megatron.install(  # doctest: +SKIP
...     model="llama-3.1-8b", cluster="h100-8x8", tensor_parallel=2
... )

Everything else stays as Megatron-Core has it: its settings, its groups, its data path.
"""

from lengthwise.megatron._install import UnsupportedMegatronError, install, uninstall

__all__ = ["UnsupportedMegatronError", "install", "uninstall"]
