"""Which model a key goes to. What this says is a promise: a test that is under way rests on it."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._models.scorer import Failed
from bulk_inferencer._units.routing import NoKeyError, SplitRouting, key_bytes
from bulk_inferencer.errors import InputError, SettingsError
from tests.helpers import exactly, example, sequence_example

KEYS = [b"user-%d" % i for i in range(20_000)]
HALVES = {"a": 1, "b": 1}


def models_of(keys, weights, salt=""):
    routing = SplitRouting(weights, salt=salt)
    return [routing.model_of(key) for key in keys]


# Fixed vectors


# The digests are what `printf 'SALT\000KEY' | sha256sum` prints; the place of a key is that of its
# first 16 digits between 0000000000000000 and ffffffffffffffff.
VECTORS = [
    ("", b"user-1", "019ba1ca038842f8597c056ca07e51bb33c567412f99d40ae0e87f929b62bd3c"),
    ("salt", b"user-1", "344dabcf7e5ca00213adf586a52b9a06bc7a670191a323a3a000422e3184b127"),
    ("salt", b"42", "5994b815acdc3d975d304fb3c76982152543754cbdf8f4446fd9f7507299b020"),
    ("", b"7", "797427cf8368051fe7b8e3e9d5ade9c5bc9d0cf96f4f3fad2a1e1d7848368188"),
    ("", b"0.5", "bf71453a2fce20c9eeecf49a0002b6c34e3f1e45265e9ccab13980f101e5ab55"),
    ("ünï", b"user-1", "fbbe50ec4e46a06ea12f18cf656c9f6ddc175ccc3b0adaaf08d7ff71ac5841aa"),
    ("", b"", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
]


@pytest.mark.parametrize(("salt", "key", "digest"), VECTORS)
def test_place_of_a_key_is_the_start_of_its_digest(salt, key, digest):
    place = int(digest[:16], 16)
    after = 2**64 - place - 1  # places behind that of the key
    # Weights as exact as this need integers: a float has 53 bits.
    just_in = SplitRouting({"a": place + 1, "b": after}, salt=salt)
    just_out = SplitRouting({"a": place, "b": after + 1}, salt=salt)
    assert (just_in.model_of(key), just_out.model_of(key)) == ("a", "b")


def test_range_is_shared_out_in_the_order_of_the_names_and_each_part_ends_at_a_whole_place():
    weights = {f"m{i}": 1 for i in reversed(range(10))}
    # Of 2**64: 0.006, 0.204, 0.350, 0.474, 0.748, 0.983 and 0.430.
    expected = ["m0", "m2", "m3", "m4", "m7", "m9", "m4"]
    found = [SplitRouting(weights, salt=salt).model_of(key) for salt, key, _ in VECTORS]
    assert found == expected
    # A third of 2**64 is 6148914691236517205 and a third.
    ends = SplitRouting({"a": 1, "b": 1, "c": 1})._ends
    assert ends == [6148914691236517206, 12297829382473034411, 18446744073709551616]


# Shares


def assert_share(count, share, total=20_000):
    """Checks that a part of all keys is within three standard deviations of its size."""
    assert abs(count - total * share) < 3 * math.sqrt(total * share * (1 - share)) + 1


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.3}, {"a": 1, "b": 1}, {"a": 0.99, "b": 0.01}, {"a": 0.1, "b": 0.2, "c": 0.7},
        {"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 1e-3, "b": 1e3},
    ],
    ids=str,
)  # fmt: skip
def test_shares_of_many_keys_are_those_of_the_weights(weights):
    for salt in ("", "second test"):
        counts = Counter(models_of(KEYS, weights, salt))
        assert sum(counts.values()) == len(KEYS)
        for model, weight in weights.items():
            assert_share(counts[model], weight / sum(weights.values()))


@pytest.mark.parametrize("unit", [1, 2, 3, 10, 0.5, 2.0**-30])
def test_order_and_unit_of_the_weights_change_nothing(unit):
    weights = {"a": 9, "b": 1, "c": 5}
    expected = models_of(KEYS[:500], weights)
    for names in itertools.permutations(weights):
        scaled = {name: weights[name] * unit for name in names}
        assert SplitRouting(scaled)._ends == SplitRouting(weights)._ends
        assert models_of(KEYS[:500], scaled) == expected


def test_another_salt_makes_an_independent_test():
    pairs = Counter(zip(*(models_of(KEYS, HALVES, s) for s in ("first", "second")), strict=True))
    assert len(pairs) == 4
    for count in pairs.values():
        assert_share(count, 1 / 4)


def test_as_few_keys_as_possible_move_where_weights_change():
    before, after = models_of(KEYS, {"a": 90, "b": 10}), models_of(KEYS, {"a": 80, "b": 20})
    moves = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert set(moves) == {("a", "b")}
    assert_share(moves["a", "b"], 1 / 10)


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(1e-9, 1e9), min_size=1),
    st.lists(st.binary(max_size=20)),
    st.text(max_size=5),
)
def test_every_key_has_one_model_of_those_with_a_weight(weights, keys, salt):
    routing = SplitRouting(weights, salt=salt)
    ends = routing._ends
    assert ends == sorted(ends)
    assert ends[-1] == 2**64
    assert {routing.model_of(key) for key in keys} <= set(weights)


# Keys of records


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"user-1", b"user-1"),
        ("ünï", "ünï".encode()),
        (b"\xff\0", b"\xff\0"),
        (b"", b""),
        (7, b"7"),
        (-(2**63), b"-9223372036854775808"),
        (-0.5, b"-0.5"),
        (2.0**100, b"1.2676506002282294e+30"),
        (2.0, b"2.0"),
        (0.1, b"0.10000000149011612"),  # as the 32 bits that a record holds
        (float("nan"), b"nan"),
    ],
)
@pytest.mark.parametrize("make", [example, sequence_example])
def test_key_is_the_one_value_of_its_feature(make, value, key):
    assert SplitRouting(HALVES, "k").key_of(make(k=value, other=[1, 2])) == key
    if value != 0.1:
        assert key_bytes(value) == key


def test_whole_record_is_the_key_by_default():
    record = b"\xff is no tf.Example"
    assert SplitRouting(HALVES).key_of(record) == record


NO_KIND = b"\n\x07\n\x05\n\x01k\x12\x00"  # Features {feature {key: "k" value {}}}


@pytest.mark.parametrize(
    ("feature", "record", "count"),
    [
        ("k", example(x=1.0), 0),
        ("k", example(k=[]), 0),
        ("k", example(k=["a", "b"]), 2),
        ("k", sequence_example(user="u1"), 0),
        ("steps", sequence_example(user="u1"), 0),
        ("k", NO_KIND, 0),
        ("k", b"", 0),
        ("k", b"\xff", None),
    ],
)
def test_record_without_exactly_one_key_goes_nowhere(feature, record, count):
    reason = f"has {count} values; splitting needs exactly one"
    if count is None:
        reason = "cannot be read: the record is not a tf.Example"
    message = f"feature '{feature}' {reason}"
    routing = SplitRouting(HALVES, feature)
    with pytest.raises(NoKeyError, match=exactly(message)):
        routing.key_of(record)
    failed = [Failed(0, "NoKeyError", message)]
    assert routing.route([record]) == ({"a": [], "b": []}, [b""], failed)


def test_rows_of_a_batch_are_shared_out_in_order():
    routing = SplitRouting(HALVES, "k", salt="s")
    keys = [b"user-%d" % i for i in range(50)]
    records = [example(k=key, x=float(i)) for i, key in enumerate(keys)]
    records.insert(20, example(x=1.0))
    rows, _, (failure,) = routing.route(records)
    assert failure.index == 20
    assert list(rows) == ["a", "b"]
    assert sorted([*rows["a"], *rows["b"], 20]) == list(range(51))
    for model, own in rows.items():
        assert own == sorted(own)
        assert {routing.model_of(routing.key_of(records[i])) for i in own} == {model}


# Models that are kept out


def test_keys_of_a_model_that_is_kept_out_are_shared_out_and_all_others_stay_where_they_are():
    weights = {"a": 1, "b": 2, "c": 1}
    routing = SplitRouting(weights, kept_out=frozenset({"a"}))
    after = [routing.model_of(key) for key in KEYS]
    pairs = Counter(zip(models_of(KEYS, weights), after, strict=True))
    assert set(pairs) == {("b", "b"), ("c", "c"), ("a", "b"), ("a", "c")}
    assert_share(pairs["a", "b"], 2 / 3, total=pairs["a", "b"] + pairs["a", "c"])
    rows, _, failed = routing.route(KEYS)
    assert failed == []
    assert {name: len(own) for name, own in rows.items()} == {**Counter(after), "a": 0}


# Settings


NOT_POSITIVE = (
    "The weight of model 'b' in SplitRouting.weights must be a positive number, not {!r}. Leave "
    "out a model that should get no records."
)
UNKNOWN = (
    "SplitRouting.kept_out names c, d, but the models are a, b. Use the names in "
    "SplitRouting.weights."
)
ALL_OUT = "All models are kept out: a, b. Remove at least one of them from SplitRouting.kept_out."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {}}, "SplitRouting.weights is empty. Give each model a weight."),
        *(
            ({"weights": {"a": 1, "b": weight}}, NOT_POSITIVE.format(weight))
            for weight in (0, 0.0, -1, math.inf, math.nan, "1", None)
        ),
        ({"weights": HALVES, "kept_out": frozenset("bdc")}, UNKNOWN),
        ({"weights": HALVES, "kept_out": frozenset("ab")}, ALL_OUT),
    ],
)
def test_routing_that_cannot_be_is_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        SplitRouting(**settings)


@pytest.mark.parametrize(
    ("names", "kept_out", "listed"),
    [("a", "", "a"), ("cab", "", "a, b, c"), ("", "", "none"), ("b", "b", "b")],
)
def test_models_without_a_weight_and_weights_without_a_model_are_refused(names, kept_out, listed):
    message = f"SplitRouting.weights names a, b, but the models are {listed}. Use the same names."
    with pytest.raises(SettingsError, match=exactly(message)):
        SplitRouting(HALVES, kept_out=frozenset(kept_out)).check_names(names)


def test_table_without_the_column_of_the_key_is_refused():
    SplitRouting(HALVES).check_columns([])
    SplitRouting(HALVES, "user").check_columns(["x", "user"])
    message = (
        "SplitRouting.split_key names 'user', but models see the columns x, users. Did you mean "
        "'users'? Name one of these."
    )
    with pytest.raises(InputError, match=exactly(message)):
        SplitRouting(HALVES, "user").check_columns(["x", "users"])


def test_model_that_is_kept_out_need_not_be_there():
    for names in ("a", "ab"):
        SplitRouting(HALVES, kept_out=frozenset("b")).check_names(names)
