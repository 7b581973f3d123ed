"""How a model is trained: optimiser, schedule of the learning rate, weight averaging, precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fkpsearch.environment import cpu_flags
from fkpsearch.part import Part


class Adam(Part):
    """Kingma & Ba 2015."""

    kind: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, le=1)


class AdamW(Part):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); biases and norms are not decayed."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0, le=1)


class Constant(Part):
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"


class Plateau(Part):
    """The rate is multiplied by ``factor`` after ``patience`` epochs without a better validation RMSE."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.5, gt=0, lt=1)
    patience: int = Field(5, ge=1)


class Steps(Part):
    """The rate is multiplied by ``factor`` after each of some epochs."""

    kind: Literal["steps"] = "steps"
    factor: float = Field(0.5, gt=0, lt=1)
    after: list[Annotated[int, Field(ge=1)]] = Field([], description="epochs, the same one twice for the factor twice")


class Cosine(Part):
    """A linear warm-up over ``warmup`` of all steps, then half a cosine down to zero."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1, description="share of all steps")
    over: int | None = Field(
        None, ge=1, description="epochs it takes, of which a shorter training sees the first ones; null = all of them"
    )


Schedule = Annotated[Constant | Plateau | Steps | Cosine, Field(discriminator="kind")]


class Training(Part):
    """The dials of one training."""

    rows: Literal["all", "complete"] = Field(
        "all", description="complete = only rows with all 15 labels, which is what many notebooks do and costs dearly"
    )
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(64, ge=1)
    optimizer: Annotated[Adam | AdamW, Field(discriminator="kind")] = Adam()
    schedule: Schedule = Cosine()
    averaging: float | None = Field(
        None, ge=0, lt=1,
        description="decay a step of the averaged weights that answer; null = over the steps of an epoch; 0 = off",
    )  # fmt: skip
    patience: int | None = Field(None, ge=1, description="epochs without a better validation RMSE before the end")
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        "auto",
        description="in which it learns; auto = mixed_bfloat16 on a GPU that multiplies it (NVIDIA's from 2020 on), "
        "and on a CPU that does, by TensorFlow; else, and for a hypermodel, float32. Models answer in float32, but a "
        "hypermodel in what it was told here",
    )
    refit: bool = Field(
        False, description="learn from validation and hold-out too and keep the last epoch: no honest score is left"
    )

    @model_validator(mode="after")
    def _nothing_follows_what_is_trained_on(self) -> Training:
        if self.refit and (self.patience is not None or isinstance(self.schedule, Plateau)):
            raise ValueError("refit trains on the validation pictures, so neither patience nor plateau may follow them")
        if isinstance(self.schedule, Cosine) and (self.schedule.over or self.epochs) < self.epochs:
            raise ValueError(f"schedule.over must be at least the epochs (got {self.schedule.over} of {self.epochs})")
        return self


def build_optimizer(
    training: Training, steps_an_epoch: int, slow: Sequence[Any] = (), share: float = 1.0, own: Any = None
) -> Any:
    """The ``keras.optimizers.Optimizer`` with its schedule and averaging.

    ``slow`` are variables that learn at ``share`` of the learning rate and decay at ``share`` of the decay.
    ``own`` is the one that a user's model came compiled with, not yet built: it takes the place of
    ``training.optimizer``, with the learning rate it has, which the schedule then moves unless it is one itself; its
    weights are averaged where ``training.averaging`` says so in a number.
    """
    import keras

    own = getattr(own, "inner_optimizer", own)  # where its author has it scale the loss, which only float16 needs
    rate: Any = training.optimizer.learning_rate if own is None else own.get_config()["learning_rate"]
    if not isinstance(rate, dict):  # as the config of a schedule is
        rate = _scheduled(training, rate, steps_an_epoch)
    if own is not None:
        if not isinstance(rate, dict):
            own.learning_rate = rate
        if training.averaging:  # by default what its author left as it is stays so
            own.use_ema, own.ema_momentum = True, training.averaging
        return own
    decay = 1 - 1 / steps_an_epoch if training.averaging is None else training.averaging
    averaging: dict[str, Any] = {"use_ema": True, "ema_momentum": decay} if decay else {}
    match training.optimizer:
        case Adam():
            return _two_rates(keras.optimizers.Adam, slow, share)(rate, **averaging)
        case AdamW(weight_decay=decay):
            optimizer = _two_rates(keras.optimizers.AdamW, slow, share)(rate, weight_decay=decay, **averaging)
            optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            return optimizer


def _scheduled(training: Training, rate: float, steps_an_epoch: int) -> Any:
    """The learning rate as a Keras schedule, or as it is where it stays or follows the validation RMSE."""
    from keras.optimizers import schedules

    match training.schedule:
        case Cosine(warmup=share, over=epochs):
            steps = (epochs or training.epochs) * steps_an_epoch
            warmup = round(share * steps)
            return schedules.CosineDecay(
                initial_learning_rate=0.0 if warmup else rate,
                decay_steps=max(1, steps - warmup),
                warmup_target=rate if warmup else None,
                warmup_steps=warmup,
            )
        case Steps(factor=factor, after=epochs) if epochs:
            ends = sorted(set(epochs))
            values = [rate * factor ** sum(epoch <= end for epoch in epochs) for end in (0, *ends)]
            # a step still has the rate of its boundary: the last step of an epoch belongs to it
            return schedules.PiecewiseConstantDecay([end * steps_an_epoch - 1 for end in ends], values)
    return rate


def _two_rates(optimizer: Any, slow: Sequence[Any], share: float) -> Any:
    """A class of optimizer whose steps for the ``slow`` variables are ``share`` times as long.

    Scaling gradients would do nothing: Adam divides by their size.
    """
    if not slow:
        return optimizer
    names = {variable.path for variable in slow}

    def parted(variables: Sequence[Any]) -> list[tuple[float, list[int]]]:
        places = [[], []]  # type: list[list[int]]
        for place, variable in enumerate(variables):
            places[variable.path in names].append(place)
        return [(rate, chosen) for rate, chosen in ((1.0, places[0]), (share, places[1])) if chosen]

    class TwoRates(optimizer):  # type: ignore[misc]
        """See `_two_rates`."""

        weight_decay: float | None

        def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
            for part, chosen in parted(trainable_variables):
                of_part = ([values[place] for place in chosen] for values in (grads, trainable_variables))
                super()._backend_update_step(*of_part, learning_rate * part)

        def _apply_weight_decay(self, variables: Any) -> None:
            decay = self.weight_decay
            for part, chosen in parted(variables):
                self.weight_decay = None if decay is None else decay * part
                if decaying := [one for one in (variables[place] for place in chosen) if self._use_weight_decay(one)]:
                    super()._apply_weight_decay(decaying)  # torch takes no empty list
            self.weight_decay = decay

    return TwoRates


def gpu_is_there() -> bool:
    """Whether the current Keras backend computes on a GPU."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            return bool(tensorflow.config.list_physical_devices("GPU"))
        case "jax":
            import jax

            return bool(jax.default_backend() == "gpu")
        case "torch":
            import torch

            return bool(torch.cuda.is_available())
        case _:
            return False


@contextmanager
def building_in(policy: str) -> Iterator[None]:
    """Layers that are made within have this dtype policy; whatever else is made in this process has its own."""
    import keras

    others = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(others)


def dtype_policy(training: Training, *, our_head: bool = True) -> str:
    """The Keras dtype policy; "auto" is half precision wherever that is what the hardware multiplies fastest.

    But where the last layer is not ours, as it may answer in steps of half a pixel then, its author has to ask for it.
    """
    if training.precision != "auto":
        return training.precision
    if not our_head:
        return "float32"
    if gpu_is_there():
        return "mixed_bfloat16" if min(capabilities(), default=BFLOAT16_FROM) >= BFLOAT16_FROM else "float32"
    return "mixed_bfloat16" if multiplies_bfloat16() else "float32"


BFLOAT16_FROM = (8, 0)
"""The first compute capability (Ampere) that multiplies bfloat16; a T4, P100 or V100 does it in float32, and slower"""


def capabilities() -> list[tuple[int, int]]:
    """CUDA's compute capability of each GPU that the current Keras backend sees, where it has one."""
    import keras

    match keras.backend.backend():
        case "tensorflow":
            from tensorflow import config

            told = [config.experimental.get_device_details(gpu) for gpu in config.list_physical_devices("GPU")]
            return [tuple(one["compute_capability"]) for one in told if "compute_capability" in one]
        case "jax":
            import jax

            words = [str(getattr(device, "compute_capability", "")).split(".") for device in jax.devices()]
            return [(int(one[0]), int(one[1])) for one in words if len(one) == 2]
        case _:
            import torch

            return [torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())]


def multiplies_bfloat16() -> bool:
    """Whether TensorFlow computes here, on a processor with instructions for bfloat16 (Zen 4, Sapphire Rapids, ...).

    Its convolutions are up to twice as fast then; on other processors it would be half as fast, or worse.
    """
    import keras

    return keras.backend.backend() == "tensorflow" and not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_flags())
