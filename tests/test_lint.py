"""What a space asks of settings, and what its models weigh, against brute force and by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from test_models import plain_cnn_parameters

from fkpsearch.errors import SpaceError
from fkpsearch.lint import check_space, common_split, most_epochs, probes
from fkpsearch.models import Cnn
from fkpsearch.models.blocks import DenseHead
from fkpsearch.settings import settings_of
from fkpsearch.sizes import sizes
from fkpsearch.space import Given, load_space, parse_space
from fkpsearch.strategy import Asha, Median, Never, Random, Strategy, Tpe, build_pruner, build_sampler, strategy_of

SPACES = sorted((Path(__file__).parents[1] / "spaces").glob("*.yaml"))


def problems(text: str) -> list[str]:
    with pytest.raises(SpaceError) as caught:
        check_space(parse_space(text, "x.yaml"))
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "model: {variant: {baseline: {}, cnn: {dense: {dropout: {float: [0.0, 1.5]}}}}}",
            "x.yaml: model.cnn.dense.dropout: must be below 1 (got 1.5)",
        ),
        (
            "model: {variant: {baseline: {}, cnn: {widht: {int: [1, 2]}}}}",
            "x.yaml: model.cnn.widht: is not a setting; did you mean width?",
        ),
        (
            "model: {variant: {baseline: {}, cn: {}}}",
            "x.yaml: model.kind: is not known (got cn); did you mean cnn?",
        ),
        (
            "model: {kind: cnn, input_size: 48, blocks: {int: [3, 6]}}",
            "x.yaml: model.cnn: blocks must leave at least one pixel of 48 (got 6 halvings)",
        ),
        (
            "model: {kind: baseline}\nsplit: {validation: {float: [0.1, 0.2]}}",
            "x.yaml: split.validation: may not be searched: trials would not be comparable; write one value",
        ),
        (
            "model: {kind: baseline}\nstudy: {pruner: {kind: hyperband}}",
            "x.yaml: study.pruner.kind: is not known (got hyperband); known: asha, median, never",
        ),
        (
            "model: {kind: baseline}\nstudy: {samplr: {kind: tpe}}",
            "x.yaml: study.samplr: is not a setting; did you mean sampler?",
        ),
        ("epochs: 3", "x.yaml: model: is missing"),
        (
            "model: {kind: cnn, readout: {kind: simcc}, dense: {width: {int: [16, 64]}}}",
            "x.yaml: model.dense.width: would change nothing: no readout takes the dense layer; leave it out",
        ),
        (
            "model: {kind: baseline}\ntraining: {epochs: 60}\nstudy: {pruner: {kind: asha, min_epochs: 500}}",
            "x.yaml: study.pruner.min_epochs: must be at most 60, the longest training of the space (got 500)",
        ),
    ],
)
def test_what_is_wrong_at_any_end_of_any_branch_is_one_line(text: str, line: str) -> None:
    assert line in problems(text)


def test_a_dense_layer_may_be_searched_where_some_readout_reads_it() -> None:
    dense = "dense: {width: {int: [16, 64]}}"
    check_space(parse_space(f"model: {{kind: cnn, readout: {{variant: {{dense: {{}}, simcc: {{}}}}}}, {dense}}}", "x"))
    cnn = f"cnn: {{readout: {{kind: simcc}}, {dense}}}"
    assert problems(f"model: {{variant: {{{cnn}, vgg: {{{dense}}}}}}}") == [
        "x.yaml: model.cnn.dense.width: would change nothing: no readout takes the dense layer; leave it out"
    ]


def test_all_problems_are_told_at_once() -> None:
    text = """
model: {kind: cnn, width: {int: [0, 600]}, dense: {dropout: {float: [0, 1]}}}
training: {epochs: {choice: [0, 3]}}
study: {sampler: {kind: magic}}
"""
    assert len(problems(text)) == 5


@pytest.mark.parametrize("sizes_in_order", ["[96, 48]", "[48, 96]"])
def test_values_that_fail_only_together_are_left_to_the_sampler(sizes_in_order: str) -> None:
    text = f"model: {{kind: cnn, input_size: {{choice: {sizes_in_order}}}, blocks: {{int: [1, 6]}}}}"
    space = parse_space(text, "x")
    check_space(space)
    assert len([one for one in sizes(space, random_models=9) if one.which == "random"]) == 9


def test_the_split_is_common_to_all_trials() -> None:
    space = parse_space("model: {kind: cnn, blocks: {int: [1, 2]}}\nsplit: {holdout: 0.2}", "x")
    shares, validation = common_split(space)
    assert (shares.holdout, shares.validation, validation.folds) == (0.2, 0.15, 1)


def test_probes_reach_every_option_of_every_branch_and_the_enqueued_settings() -> None:
    text = """
model: {variant: {baseline: {}, cnn: {width: {int: [3, 9]}, activation: {variant: {relu: , leaky_relu: {alpha: 0.2}}}}}}
training: {epochs: {choice: [5, 50, 7]}}
enqueue: [{training: {epochs: 50}, model: {kind: cnn, width: 8}}]
"""
    space = parse_space(text, "x")
    trees = [space.sample(Given(told)) for told in probes(space)]
    models = [tree["model"] for tree in trees]
    assert {model["kind"] for model in models} == {"baseline", "cnn"}
    assert {model["width"] for model in models if "width" in model} == {3, 9, 8}
    assert {model["activation"]["kind"] for model in models if "activation" in model} == {"relu", "leaky_relu"}
    assert most_epochs(space) == 50


SMALL = """
model:
  variant:
    baseline: {heads: {choice: [one, population]}}
    cnn:
      input_size: {choice: [96, 48]}
      blocks: {int: [1, 3]}
      width: {choice: [2, 4]}
      doubled: {choice: [false, true]}
      dense: {width: 4}
training: {batch_size: 10}
"""


def test_smallest_and_largest_are_those_of_brute_force_and_random_ones_lie_between() -> None:
    counts = {
        "cnn": [
            plain_cnn_parameters(Cnn(input_size=size, blocks=b, width=w, doubled=d, dense=DenseHead(width=4)))
            for size, b, w, d in itertools.product((96, 48), (1, 2, 3), (2, 4), (False, True))
        ],
        "baseline": [2_650_930, 2_650_930 + 88_361 * 30],
    }
    heard: list[tuple[int, int]] = []
    built = sizes(parse_space(SMALL, "x"), random_models=6, on_progress=lambda *step: heard.append(step))
    found = {(one.family, one.which): one.cost.parameters for one in built if one.which != "random"}
    assert found == {
        (family, which): pick(counts[family])
        for family in counts
        for which, pick in (("smallest", min), ("largest", max))
    }
    drawn = [one for one in built if one.which == "random"]
    assert len(drawn) == 6
    assert all(one.cost.parameters in counts[one.family] and one.batch_size == 10 for one in drawn)
    assert heard == [(step, 10) for step in range(1, 11)]


def test_multiply_adds_and_activations_are_those_counted_by_hand() -> None:
    tree = "model: {kind: cnn, input_size: 48, blocks: 2, width: 3, batch_norm: false, dense: {width: 5}}"
    (one, *_) = sizes(parse_space(tree, "x"), random_models=0)
    assert one.cost.multiply_adds == 48 * 48 * 9 * 1 * 3 + 24 * 24 * 9 * 3 * 6 + 12 * 12 * 6 * 5 + 5 * 30
    numbers = {
        "to_unit_range": 96 * 96, "average pooling": 48 * 48,
        "conv 1": 48 * 48 * 3, "pool 1": 24 * 24 * 3, "relu 1": 24 * 24 * 3,
        "conv 2": 24 * 24 * 6, "pool 2": 12 * 12 * 6, "relu 2": 12 * 12 * 6,
        "dense": 5, "relu 3": 5, "keypoints": 30, "pixels": 30,
    }  # fmt: skip
    assert one.cost.activation_bytes == 4 * sum(numbers.values())


def test_a_branch_that_keras_cannot_build_is_named_with_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Cnn, pictures: Any) -> Any:
        from keras import layers

        x = pictures
        for _ in range(self.blocks):  # without padding a picture of 96 px has no room for three of them
            x = layers.Conv2D(1, 40)(x)
        return x

    monkeypatch.setattr(Cnn, "forward", forward)
    with pytest.raises(SpaceError, match=r"^x: model.cnn: cannot be built with model.blocks = 3: .+$") as caught:
        sizes(parse_space("model: {kind: cnn, blocks: {int: [1, 3]}}", "x"), random_models=3)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_space_of_ours_passes_its_check(path: Path) -> None:
    space = load_space(path)
    check_space(space)
    built = sizes(space, random_models=5)
    assert len(built) == 7
    assert built[0].cost.parameters < built[1].cost.parameters
    assert sum(len(params) > 0 for params in space.enqueued()) == len(space.enqueue) > 0


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_space_of_ours_opens_with_what_it_costs_and_reached(path: Path) -> None:
    opening = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    for word in ("What it explores", "What it costs", "Score reached", "Command", "Date"):
        assert word in opening
    assert "TODO" not in opening
    assert f"fkpsearch run spaces/{path.name}" in opening


def test_enqueued_settings_of_ours_are_what_they_say() -> None:
    space = load_space(Path(__file__).parents[1] / "spaces" / "cnn.yaml")
    models = [settings_of(space.sample(Given(params)), "x").model for params in space.enqueued()]
    said = [(one.doubled, one.widths, one.readout.kind) for one in models if isinstance(one, Cnn)]
    deck = (32, 64, 128, 256, 512)
    assert said == [(True, deck[:4], "simcc"), (False, deck, "dense"), (True, deck, "dense"), (True, deck, "dense")]


def test_samplers_and_pruners_are_optunas_with_the_dials_of_the_space() -> None:
    import optuna

    tree = {"sampler": {"kind": "tpe", "startup_trials": 7}, "pruner": {"kind": "median", "warmup_epochs": 3}}
    strategy = strategy_of(tree, "x")
    assert strategy == Strategy(sampler=Tpe(startup_trials=7), pruner=Median(warmup_epochs=3))
    sampler = build_sampler(strategy, seed=1)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._n_startup_trials == 7
    assert sampler._multivariate
    assert sampler._group
    assert isinstance(build_sampler(Strategy(sampler=Random()), 0), optuna.samplers.RandomSampler)
    assert isinstance(build_pruner(strategy, 60), optuna.pruners.MedianPruner)
    assert isinstance(build_pruner(Strategy(pruner=Never()), 60), optuna.pruners.NopPruner)


def test_the_first_rung_is_a_ninth_of_the_epochs_rounded_up() -> None:
    import optuna

    pruner = build_pruner(Strategy(pruner=Asha()), 60)
    assert isinstance(pruner, optuna.pruners.SuccessiveHalvingPruner)
    assert pruner._min_resource == 7
    assert build_pruner(Strategy(pruner=Asha(min_epochs=4)), 60)._min_resource == 4  # type: ignore[attr-defined]
