from __future__ import annotations

import ast
import math
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.config import CandidatesConfig, Config, EventType, ModelConfig, load, named_configs, named_text, parse
from hmamba.config.load import RENAMED
from hmamba.configdocs import groups
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

CHECKOUT = Path(__file__).parents[1]


def write(layout: Layout, text: str) -> Path:
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.config.write_text(text, encoding="utf-8")
    return layout.config


def test_without_a_file_the_defaults_hold(layout: Layout) -> None:
    assert load(None, layout) == Config()


def test_the_roots_own_file_is_found_and_a_path_is_read(layout: Layout) -> None:
    path = write(layout, '[source.columns]\nuser_id = "who"\n[candidates]\nk = 7\n')
    assert load(None, layout).candidates.k == 7
    assert load(str(path), layout).source.columns.user_id == "who"


def test_a_byte_order_mark_is_no_setting(layout: Layout) -> None:
    write(layout, "\ufeff[candidates]\nk = 7\n")
    assert load(None, layout).candidates.k == 7


def test_a_position_may_be_called_as_times_are() -> None:
    assert parse({"source": {"columns": {"position": "event_time"}}}, "here").source.columns.position == "event_time"


@pytest.mark.parametrize("name", named_configs())
def test_named_configurations_are_valid(layout: Layout, name: str) -> None:
    found = load(name, layout)
    assert found == parse(tomllib.loads(named_text(name)), name)
    assert found.model_fields_set >= {"candidates"}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_an_error_that_says_the_new_one(old: str) -> None:
    values: Any = 1
    for part in reversed(old.split(".")):
        values = {part: values}
    with pytest.raises(ConfigError) as caught:
        parse(values, "here")
    new = RENAMED[old]
    told = f"has a new name: use {new}" if new else "is no longer a setting: remove it"
    assert str(caught.value) == f"here: {old!r} {told}."


def test_new_names_are_settings() -> None:
    for new in filter(None, RENAMED.values()):
        value: Any = Config()
        for part in new.partition(" ")[0].split("."):
            value = getattr(value, part)


def test_every_setting_is_read() -> None:
    """By its attribute, somewhere in the product; the columns of interactions are read by their roles."""
    sources = [path for folder in ("hmamba", "jobs") for path in (CHECKOUT / folder).rglob("*.py")]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    assert [f"{group.name}.{one.name}" for group in groups() for one in group.settings if one.name not in read] == []


def test_groceries_have_no_titles_but_those_of_their_categories(layout: Layout) -> None:
    catalogue = load("complete_journey", layout).catalogue
    assert (catalogue.title, catalogue.category_path[-1]) == (None, "product_type")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense = 1", "unknown key 'nonsense'"),
        ("[model]\ndimm = 8", "unknown key 'model.dimm'"),
        ("[source.columns]\nuserid = 'u'", "unknown key 'source.columns.userid'"),
        (
            "[source.columns]\nuser_id = 'id'\nitem_id = 'id'",
            "source.columns: user_id and item_id both name the column",
        ),
        ("[source.columns]\nposition = 'user_id'", "user_id and position both name the column 'user_id'"),
        ("[candidates]\nk = 0", "candidates.k = 0"),
        ("[candidates]\nk = 'many'", "candidates.k = 'many'"),
        ("[quality]\nmax_quarantined_share = 1.5", "quality.max_quarantined_share = 1.5"),
        ("[quality]\nmin_time = 'soon'", "quality.min_time = 'soon'"),
        ("[warehouse]\nmemory_limit = 'lots'", "warehouse.memory_limit = 'lots'"),
        ("[warehouse]\nmemory_limit = '4GB; drop'", "warehouse.memory_limit"),
        ("[source]\ntime_format = 'roman'", "source.time_format = 'roman'"),
        ("[model]\ndim = 10\nhead_dim = 16", "is not a multiple of head_dim"),
        ("[model]\nscore_terms = ['repeats']", '"repeats", which needs candidates.exclude_seen = false'),
        ("[model]\nscore_terms = ['habit']", "choose among repeats, cooccurrence, attributes, each once"),
        ("[model]\nscore_terms = ['attributes', 'attributes']", "each once"),
        (
            "[model]\nscore_term = 'repeats'",
            'use model.score_terms = ["repeats"] or ["cooccurrence"] for one, [] for "none"',
        ),
        ("[model]\nrepeat = true", 'use model.score_terms with or without "repeats"'),
        ("[model]\ntransitions = false", 'use model.score_terms with or without "cooccurrence"'),
        ("[model]\nscore_terms = 'attributes'", "score_terms = 'attributes': give a list, such as [\"attributes\"]"),
        ("[model]\ncategory_levels = [2]\ncategory_vectors = false", "by category_vectors, and neither is on"),
        ("[model]\ncategory_levels = [0]\n[candidates]\nexclude_seen = false", "name each level once, from 1"),
        ("[model]\ncategory_levels = [2, 1]\n[candidates]\nexclude_seen = false", "name each level once, from 1"),
        ("[model]\ncategory_levels = [2, 2]\n[candidates]\nexclude_seen = false", "name each level once, from 1"),
        ("[catalogue]\nattributes = ['']", "catalogue.attributes = ['']: name each column once"),
        ("[catalogue]\nattributes = ['brand', 'brand']", "name each column once"),
        ("[gate]\nmetric = 'ndcg@7'", "gate.metric = 'ndcg@7' is not measured: add 7 to gate.cutoffs = [10, 20, 40]"),
        ("[gate]\nmetric = 'ndcg@100'", "'ndcg@100' is not measured: add 100 to gate.cutoffs"),
        (
            "[gate]\nmetric = 'recall@7'",
            "add 7 to gate.cutoffs = [10, 20, 40], or set it to one of these or to candidates.k = 100",
        ),
        ("[gate]\nmetric = 'coverage@10'", "gate.metric = 'coverage@10'"),
        ("[gate]\ncutoffs = [0]", "give at least one, each from 1 to 10,000"),
        ("this is not toml", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(layout: Layout, text: str, told: str) -> None:
    write(layout, text)
    with pytest.raises(ConfigError) as caught:
        load(None, layout)
    message = str(caught.value)
    assert "hmamba.toml" in message
    assert told in message
    assert caught.value.exit_code == 2


def test_an_old_name_of_a_setting_is_answered_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match=r"float32_overlap' has a new name: use candidates.float32_recall"):
        parse({"candidates": {"float32_overlap": 0.9}}, "here")


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown key 'a'.*unknown key 'b'"):
        parse({"a": 1, "b": 2}, "somewhere")


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("quality", "max_future_hours", math.inf, "finite number"),
        ("quality", "max_future_hours", 1e9, "less than or equal to 2400000"),
        ("quality", "max_weight", math.inf, "finite number"),
        ("quality", "max_weight", 1e39, "less than or equal to 3"),
        ("quality", "min_weight", math.nan, "finite number"),
        ("quality", "min_time", "0001-01-01T00:00:00+02:00", "before the year 1 in UTC"),
        ("warehouse", "overlap_days", 1_000_000, "less than or equal to 100000"),
        ("train", "learning_rate", math.nan, "finite number"),
    ],
)
def test_numbers_that_no_time_or_weight_can_hold_are_refused(section: str, key: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.{key}.*{told}"):
        parse({section: {key: value}}, "here")


def test_the_earliest_time_is_kept_in_utc() -> None:
    config = parse({"quality": {"min_time": "2020-01-01T00:00:00+02:00"}}, "here")
    assert config.quality.min_time == datetime(2019, 12, 31, 22)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("nowhere.toml", "no such file"),
        ("./x/y", "no such file"),
        ("/", "/ cannot be read: Is a directory"),
        ("movies", "one of complete_journey"),
    ],
)
def test_a_choice_that_does_not_exist(layout: Layout, choice: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(choice, layout)


def test_the_training_digest_changes_with_what_training_depends_on_only() -> None:
    plain = Config().training_digest()
    assert parse({"candidates": {"k": 3}}, "here").training_digest() == plain
    assert parse({"train": {"seed": 1}}, "here").training_digest() != plain
    assert parse({"model": {"dim": 32}}, "here").training_digest() != plain


COUNTED = ("cooccurrence", "attributes")


@pytest.mark.parametrize(
    ("values", "terms"),
    [
        ({}, COUNTED),
        ({"candidates": {"exclude_seen": True}}, COUNTED),
        ({"candidates": {"exclude_seen": False}}, ("repeats", *COUNTED)),
        ({"candidates": {"exclude_seen": False}, "model": {"category_levels": [1]}}, ("repeats", *COUNTED)),
        ({"candidates": CandidatesConfig(exclude_seen=False), "model": ModelConfig(dim=32)}, ("repeats", *COUNTED)),
        ({"candidates": {"exclude_seen": False}, "model": {"score_terms": ["attributes"]}}, ("attributes",)),
        ({"model": {"score_terms": []}}, ()),
    ],
)
def test_the_score_terms_are_all_that_fit_exclude_seen_unless_they_are_named(
    values: dict[str, Any], terms: tuple[str, ...]
) -> None:
    assert parse(values, "test").model.score_terms == terms


def test_weights_are_those_of_the_learned_term() -> None:
    learned, counted, none = (ModelConfig(score_terms=terms) for terms in (("repeats",), COUNTED, ()))
    assert counted.same_weights(none)
    assert not learned.same_weights(none)
    assert ModelConfig(score_terms=("repeats", *COUNTED)).same_weights(learned)
    assert not none.same_weights(ModelConfig(score_terms=(), dim=32))


def test_event_types_have_tables_of_their_own() -> None:
    values = {
        "source": {"columns": {"event_type": "kind"}},
        "events": {"view": {"weight": 0.2, "target": False}, "buy": {}},
    }
    types = parse(values, "here").events.types
    assert types == {"view": EventType(weight=0.2, target=False), "buy": EventType()}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": {"columns": {"event_type": "kind"}}}, "names no type"),
        ({"events": {"view": {}}}, "set source.columns.event_type"),
        ({"source": {"columns": {"event_type": "kind"}}, "events": {"view": {"target": False}}}, "is a target"),
        ({"source": {"columns": {"event_type": "kind"}}, "events": {"view": {"wieght": 1}}}, "events.view.wieght"),
    ],
)
def test_event_types_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(values, "here")


NUMBERS = [
    (f"{group.name}.{one.name}".replace("TARGET", "shop"), one.type)
    for group in groups()
    for one in group.settings
    if one.type.startswith(("integer", "number"))
]
ABSURD = [math.inf, -math.inf, math.nan, 1e308, -1e308, 5e-324, 10**30, -(10**30), 2**63, -1, 0]


def nested(key: str, value: Any) -> dict[str, Any]:
    """A configuration with one setting; TYPE is an event type, and its column is named."""
    for part in reversed(key.split(".")):
        value = {part: value}
    types = {"source": {"columns": {"event_type": "kind"}}} if "TYPE" in key else {}
    return {**types, **value}


def refused(key: str, value: Any) -> str | None:
    """What is said of a setting; None if it is valid."""
    try:
        parse(nested(key, value), "here")
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("key", "kind"), NUMBERS)
def test_every_number_has_bounds_and_one_beyond_them_is_named(key: str, kind: str) -> None:
    assert any(sign in kind for sign in "≥>"), kind
    assert any(sign in kind for sign in "≤<"), kind
    told = [refusal for value in ABSURD if (refusal := refused(key, value)) is not None]
    assert len(told) >= 5
    assert all(key in message and len(message) < 1_000 for message in told), told


@given(st.sampled_from(NUMBERS), st.floats() | st.integers())
def test_a_number_is_valid_or_named(number: tuple[str, str], value: float) -> None:
    told = refused(number[0], value)
    assert told is None or number[0].rpartition(".")[2] in told


@pytest.mark.parametrize("key", ["gate.cutoffs", "model.category_levels"])
@pytest.mark.parametrize("value", [10**30, -1, 2**63, math.inf, math.nan])
def test_a_number_of_a_list_is_named(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.").split(".")[-1]):
        parse(nested(key, [value]), "here")


@pytest.mark.parametrize("limit", ["0KB", "63MB", "1025TB", "9" * 400 + "GB", "1e3GB", "-1GB", "infGB", "٣GB"])
def test_a_memory_limit_is_plausible(limit: str) -> None:
    with pytest.raises(ConfigError, match=r"warehouse\.memory_limit = "):
        parse({"warehouse": {"memory_limit": limit}}, "here")


@pytest.mark.parametrize("limit", ["64MB", "1.5 GiB", "1024TB"])
def test_a_memory_limit_is_one_of_duckdb(limit: str) -> None:
    with in_memory(parse({"warehouse": {"memory_limit": limit, "threads": 1}}, "here").warehouse) as connection:
        assert connection.execute("SELECT count(*) FROM range(1000)").fetchall() == [(1_000,)]


@pytest.mark.parametrize(
    ("text", "told"),
    [("[candidates]\nk = " + "9" * 5_000, "is not TOML"), ("a = " + "[" * 5_000, "nested too deeply")],
)
def test_a_hostile_configuration_ends_in_a_sentence(layout: Layout, text: str, told: str) -> None:
    write(layout, text)
    with pytest.raises(ConfigError, match=told):
        load(None, layout)


@pytest.mark.parametrize(
    "values", [{"min_weight": 2.0, "max_weight": 1.0}, {"min_volume_ratio": 2.0, "max_volume_ratio": 1.0}]
)
def test_bounds_in_the_wrong_order_are_named(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"quality\.{next(iter(values))} = 2 is above quality\.max"):
        parse({"quality": values}, "here")


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ({"segments": ["country"]}, "users.segments needs a file of users: set users.path"),
        ({"include_without_events": True}, "users.include_without_events needs a file of users: set users.path"),
        ({"path": "u.csv", "segments": ["a", "a"]}, "users.segments names a column twice"),
    ],
)
def test_segments_are_columns_of_a_file(users: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse({"users": users}, "here")
    assert parse({"users": {"path": "u.csv", "segments": ["a", "b"]}}, "here").users.segments == ("a", "b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("warn_churn = 0.6\nmax_churn = 0.5", "warn_churn = 0.6 is above publish.guards.max_churn = 0.5"),
        ("warn_coverage = 0.1\nmin_coverage = 0.2", "warn_coverage = 0.1 is below publish.guards.min_coverage = 0.2"),
    ],
)
def test_a_guard_that_would_stop_before_it_warns_is_named(layout: Layout, text: str, told: str) -> None:
    write(layout, f"[publish.guards]\n{text}")
    with pytest.raises(ConfigError, match=rf"publish\.guards\.{told}, so that the night would stop"):
        load(None, layout)


def test_a_default_warning_does_not_forbid_a_lower_bound(layout: Layout) -> None:
    write(layout, "[publish.guards]\nmax_users_lost = 0.01")
    assert load(None, layout).publish.guards.max_users_lost == 0.01
