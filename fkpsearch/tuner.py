"""The same spaces under keras-tuner: its oracles choose, everything else stays.

keras-tuner's own `Tuner.search` takes a pruned trial for a failure and gives up after three, keeps every trial
in one process and a state of its own on disk. So only its oracles are used, and the study's database is all there
is on disk: before every question an oracle is built from the finished trials, seeded by how many there are. A search
killed at any point goes on as if nothing had been.

A trial of Hyperband is a training of its own, with its settings' `training.epochs` cut to what the bracket grants:
the schedule is as long as the training, and the trial's `settings.yaml` alone gives its model again. (keras-tuner's
own tuner goes on from the weights of the round before.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fkpsearch.engine import open_trial
from fkpsearch.errors import Problem, StudyError
from fkpsearch.ledger import Ledger, training_seed
from fkpsearch.lint import most_epochs
from fkpsearch.nodes import Choice, Float, Int, Parameter, same
from fkpsearch.recipe import Training
from fkpsearch.space import Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

Values = dict[str, Any]
"""keras-tuner's, by the names of our parameters: of a choice the option's place, as it takes neither None nor a mix
of types and makes 1 of true. Hyperband adds ``tuner/epochs`` and the like."""

ITS_OWN = "tuner/"
"""What the names of Hyperband's own values begin with; they are the trial's user attributes"""

ENQUEUED = "enqueued"
"""The user attribute of a trial that was enqueued: its place in ``enqueue:``"""


class KerasTuner:
    """One of keras-tuner's oracles as the engine of a search."""

    copies = False  # Hyperband trains the same settings again, with more epochs
    ahead = True  # what it has not chosen its books would take for its choice

    def __init__(self, ledger: Ledger) -> None:
        from optuna.pruners import NopPruner
        from optuna.samplers import RandomSampler

        self.ledger = ledger
        self.tuner = ledger.facts.engine.split()[-1]
        self.parameters = {parameter.name: parameter for parameter in ledger.space.parameters()}
        ledger.study.sampler, ledger.study.pruner = RandomSampler(seed=0), NopPruner()  # neither has a say

    def propose(self, trials: int) -> None:
        there = self.ledger.trials
        if len(there) < trials and all(trial.state.is_finished() for trial in there):
            self.enqueue()

    def trial(self, trial_id: int) -> Trial:
        return open_trial(self.ledger.study, trial_id)

    def granted(self, trial: Trial, tree: dict[str, Any]) -> dict[str, Any]:
        granted = trial.user_attrs.get(f"{ITS_OWN}epochs", math.inf)
        training = tree.get("training", {})
        return {**tree, "training": {**training, "epochs": min(granted, training.get("epochs", Training().epochs))}}

    def prunes(self, trial: Trial, epoch: int) -> bool:
        return False  # a round of Hyperband ends its trainings by itself

    def enqueue(self) -> None:
        """Have the oracle's next trial wait in the database; where it would draw one at random, an enqueued one."""
        trials = self.ledger.trials
        place = sum(ENQUEUED in trial.user_attrs for trial in trials)
        enqueued = self.ledger.space.enqueued()[place : place + 1]
        oracle = self.oracle()
        if enqueued:
            values = _filled(oracle, self.values_of(enqueued[0]))
            oracle._random_values = lambda: values
            oracle.num_initial_points = math.inf  # of the Bayesian one: until then it draws at random
        answer = oracle.populate_space(str(len(trials)))
        if answer["status"] != "RUNNING":
            rule = f"keras-tuner finds no settings that are new after {len(trials)} trials"
            raise StudyError(Problem(str(self.ledger.folder), rule, advice="widen the space under another --name"))
        attributes = {name: value for name, value in answer["values"].items() if name.startswith(ITS_OWN)}
        if enqueued and f"{ITS_OWN}trial_id" not in attributes:
            attributes[ENQUEUED] = place
        self.ledger.study.enqueue_trial(self.params_of(answer["values"]), user_attrs=attributes)

    def oracle(self) -> Any:
        """The ``keras_tuner.Oracle`` that has seen all trials there are."""
        trials = self.ledger.trials
        seed = training_seed(self.ledger.facts.seed, len(trials)) + 1  # it takes a seed of 0 for none
        oracle = build_oracle(self.tuner, self.ledger.space, seed)
        for trial in trials:
            self.replay(oracle, trial)
        return oracle

    def replay(self, oracle: Any, trial: FrozenTrial) -> None:
        """Put a finished trial into the books of an oracle, as if it had come from it."""
        from keras_tuner.engine.trial import Trial as Replayed

        values = self.values_of(trial.params)
        if self.tuner == "hyperband":
            oracle._random_values = lambda: dict(values)
            oracle.populate_space(str(trial.number))  # for its brackets' sake
            del oracle._random_values
        own = {name: value for name, value in trial.user_attrs.items() if name.startswith(ITS_OWN)}
        hyperparameters = oracle.hyperparameters.copy()
        hyperparameters.values = {**values, **own}
        status = "COMPLETED" if trial.state.name == "COMPLETE" else "FAILED"
        replayed = Replayed(hyperparameters, trial_id=str(trial.number), status=status)
        replayed.score = trial.value if status == "COMPLETED" else None
        oracle.trials[replayed.trial_id] = replayed
        oracle._record_values(replayed)

    def values_of(self, params: Mapping[str, Any]) -> Values:
        """Parameters as keras-tuner has them."""
        return {name: _place(self.parameters[name].node, value) for name, value in params.items()}

    def params_of(self, values: Values) -> dict[str, Any]:
        """The inverse of :meth:`values_of`, for what an oracle may say."""
        return {name: _value(self.parameters[name].node, values[name]) for name in self.parameters if name in values}


def build_oracle(tuner: str, space: Space, seed: int) -> Any:
    """A ``keras_tuner.Oracle`` with keras-tuner's own defaults; ``seed`` above 0."""
    import keras_tuner
    from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle

    common = {
        "objective": keras_tuner.Objective("rmse", "min"),
        "hyperparameters": hyperparameters_of(space),
        "seed": seed,
    }
    match tuner:
        case "hyperband":
            # iteration after iteration: how many trials there are to be is the search's to say
            return HyperbandOracle(max_epochs=most_epochs(space), hyperband_iterations=None, **common)
        case "bayesian":
            return BayesianOptimizationOracle(max_trials=None, **common)
    return RandomSearchOracle(max_trials=None, **common)


def hyperparameters_of(space: Space) -> Any:
    """The ``keras_tuner.HyperParameters`` of a space; what exists under a condition is in scopes for it."""
    import keras_tuner

    found = keras_tuner.HyperParameters()
    known: dict[str, Parameter] = {}
    for parameter in space.parameters():
        known[parameter.name] = parameter
        with ExitStack() as scopes:
            for parent, need in parameter.needs.items():
                scopes.enter_context(found.conditional_scope(parent, _enough(known[parent].node, need)))
            match parameter.node:
                case Int(low, high, step, log):
                    how: dict[str, Any] = {"sampling": "log"} if log else {"step": step}
                    found.Int(parameter.name, low, high, **how)
                case Float(low, high, log):
                    found.Float(parameter.name, low, high, sampling="log" if log else "linear")
                case Choice(options):
                    found.Choice(parameter.name, list(range(len(options))), ordered=False)
    return found


def _enough(node: Int | Float | Choice, need: str | int) -> list[int]:
    """Every value of a parent under which its child exists: the branch taken, or all lists long enough."""
    if isinstance(node, Int):
        return [length for length in range(node.low, node.high + 1, node.step) if length >= int(need)]
    return [_place(node, need)]


def _place(node: Int | Float | Choice, value: Any) -> Any:
    if isinstance(node, Choice):
        return next(place for place, option in enumerate(node.options) if same(option, value))
    return value


def _value(node: Int | Float | Choice, value: Any) -> Any:
    if isinstance(node, Choice):
        return node.options[value]
    return min(max(value, node.low), node.high)  # the Bayesian oracle's end of a log range is one beyond it


def _filled(oracle: Any, given: Values) -> Values:
    """``given``, and a random value for every other parameter that exists under them."""
    import keras_tuner

    found = keras_tuner.HyperParameters()
    for number, parameter in enumerate(oracle.hyperparameters.space):
        found.merge([parameter])
        if found.is_active(parameter):
            drawn = parameter.random_sample(oracle.seed + number)
            found.values[parameter.name] = given.get(parameter.name, drawn)
    return dict(found.values)
