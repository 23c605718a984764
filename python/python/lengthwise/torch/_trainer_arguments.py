"""What a Trainer of transformers may be asked for where plans decide what runs."""

# Arguments of trainers are known by name alone: some are of transformers, some of TRL.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lengthwise.errors import InputError

#: Arguments that must be as they are by default, and why.
_REFUSED: dict[str, tuple[Any, str]] = {
    "gradient_accumulation_steps": (
        1,
        "tokens= says how large a step is; micro-batches are planned",
    ),
    "auto_find_batch_size": (False, "memory is what the planner knows"),
    "packing": (False, "sequences are packed by plans"),
    "eval_packing": (None, "sequences are packed by plans"),
    "padding_free": (False, "sequences are packed by plans"),
    "group_by_length": (False, "plans decide what runs together"),
    "train_sampling_strategy": ("random", "plans decide what runs together"),
    "fp16": (False, "losses are not scaled; bf16=True is possible"),
    "torch_compile": (False, "torch.compile is not supported"),
    "use_liger_kernel": (False, "it replaces the forward, and so the loss"),
    "label_smoothing_factor": (0.0, "the loss is the cross-entropy"),
    "loss_type": ("nll", "the loss is the cross-entropy"),
    "neftune_noise_alpha": (None, "its noise depends on how tokens are divided"),
    "activation_offloading": (False, "it is not supported; gradient_checkpointing=True is"),
    "load_best_model_at_end": (False, "load the checkpoint by its name instead"),
    "deepspeed": (None, "the model is sharded by FSDP2"),
    "parallelism_config": (None, "the model is sharded by FSDP2 over all ranks"),
}

#: Arguments of the constructor that would change the loss, or need logits.
_REFUSED_CALLABLES = (
    "compute_loss_func",
    "compute_metrics",
    "preprocess_logits_for_metrics",
    "model_init",
)

#: Collators that do nothing but pad.
_COLLATORS = (
    "default_data_collator",
    "DataCollatorWithPadding",
    "DataCollatorForSeq2Seq",
    "DataCollatorForLanguageModeling",
)


def check_trainer_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse by name what plans can't do.

    Parameters
    ----------
    arguments : mapping
        What the constructor of the trainer is given, by name.

    Raises
    ------
    InputError
        Names the argument, its value and the reason.
    """
    for name, value, reason in _refused(arguments):
        raise InputError(f"{name} is {value!r} in the arguments of the trainer: {reason}")


def _refused(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    for name in _REFUSED_CALLABLES:
        if arguments.get(name) is not None:
            yield name, arguments[name], "the loss is that of ContextParallel"
    collator = arguments.get("data_collator")
    kind = getattr(collator, "__name__", type(collator).__name__)
    if collator is not None and (kind not in _COLLATORS or getattr(collator, "mlm", False)):
        yield "data_collator", kind, "it isn't called; put labels into the data set"
    args = arguments.get("args")
    for name, (default, reason) in _REFUSED.items():
        value = getattr(args, name, default)
        # An empty plugin or configuration says the same as none.
        if value != default and not (value is None or (default is None and not value)):
            yield name, value, reason
    epochs = getattr(args, "num_train_epochs", 1)
    if getattr(args, "max_steps", -1) <= 0 and epochs != int(epochs):
        yield "num_train_epochs", epochs, "it must be whole, or max_steps given"
    fsdp: Mapping[str, Any] = getattr(args, "fsdp_config", None) or {}
    if getattr(args, "fsdp", None) and str(fsdp.get("version", fsdp.get("fsdp_version", 2))) == "1":
        yield "fsdp_config", fsdp, "FSDP2 is needed (version 2)"
    if fsdp.get("activation_checkpointing"):
        yield "fsdp_config", fsdp, "give gradient_checkpointing=True instead"


def token_columns(dataset: Any, name: str) -> Any:
    """Return a data set without the columns that no step needs.

    Raises
    ------
    InputError
        It is packed, or has masks in place of labels.
    """
    columns = getattr(dataset, "column_names", None)
    if not columns:
        return dataset
    if "seq_lengths" in columns:
        raise InputError(f"{name} is packed (it has a column seq_lengths); plans pack sequences")
    for mask in ("completion_mask", "assistant_masks"):
        if mask in columns and "labels" not in columns:
            msg = f"{name} has a column {mask}, and none of labels"
            raise InputError(msg, hint="give labels, of which -100 doesn't count")
    if not hasattr(dataset, "select_columns"):
        return dataset
    needed = ("input_ids", "labels", "attention_mask", "length", "lengths", "num_tokens")
    return dataset.select_columns([column for column in needed if column in columns])
