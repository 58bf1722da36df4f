"""The file rules.toml: its kinds of rules and their settings. docs/rules.md describes them.

Every error names the rule. Conditions are checked later, when the columns of items and users are known
(:mod:`hmamba.rules.expressions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hmamba.config import read_toml
from hmamba.errors import ConfigError
from hmamba.storage.local import digest
from hmamba.text import escaped, short

RULES = "rules.toml"
"""Name of the file under the root."""

_MOST_RANK = 10_000
_DAYS = 36_500


def _is_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: write a value, or remove the key")
    return text


def _is_printable(text: str) -> str:
    if escaped(text) != text:
        raise ValueError("has control characters: remove them")
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_is_text)]
Ids: TypeAlias = Annotated[tuple[Text, ...], Field(min_length=1)]


class _Table(BaseModel):
    """A table of rules.toml. Unknown keys, infinity and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Rule(_Table):
    """A rule with a name, which reports, checks and errors use."""

    kind: ClassVar[str]
    is_filter: ClassVar[bool] = False
    """Whether it removes items from lists, whatever their order."""

    name: Annotated[Text, AfterValidator(_is_printable)] = Field(max_length=80)


class OfUsers(Rule):
    """A rule that may hold for some users only: those named, or those for whom a condition over users.* is true."""

    users: Ids | None = None
    users_file: Text | None = None
    users_where: Text | None = None

    @model_validator(mode="after")
    def _one_choice_of_users(self) -> OfUsers:
        _at_most_one(self, ("users", "users_file", "users_where"))
        return self

    @property
    def chooses_users(self) -> bool:
        """Whether the rule is for some users only."""
        return any(value is not None for value in (self.users, self.users_file, self.users_where))


class OfItems(OfUsers):
    """A rule about some items: those named, or those for which a condition over items.* and users.* is true."""

    items: Ids | None = None
    items_file: Text | None = None
    where: Text | None = None

    @model_validator(mode="after")
    def _one_choice_of_items(self) -> OfItems:
        _at_most_one(self, ("items", "items_file", "where"))
        return self

    @property
    def chooses_items(self) -> bool:
        """Whether the rule is about some items only."""
        return any(value is not None for value in (self.items, self.items_file, self.where))


class Listed(OfItems):
    """A list of items, of pairs of users and items, or of what users have taken lately."""

    is_filter: ClassVar[bool] = True

    pairs_file: Text | None = None
    taken_within_days: float | None = Field(None, gt=0, le=_DAYS)

    @model_validator(mode="after")
    def _something_is_chosen(self) -> Listed:
        _at_most_one(self, ("items", "items_file", "where", "pairs_file"))
        if self.pairs_file is not None and (self.chooses_users or self.taken_within_days is not None):
            raise ValueError(
                "pairs_file names users and items: remove the other choices of users, or taken_within_days"
            )
        if not self.chooses_items and self.pairs_file is None and self.taken_within_days is None:
            raise ValueError("names no items: add items, items_file, where, pairs_file or taken_within_days")
        return self


class Deny(Listed):
    """The items are not recommended to the users."""

    kind: ClassVar[str] = "deny"


class Allow(Listed):
    """The users get no other items."""

    kind: ClassVar[str] = "allow"


class Available(Rule):
    """Items are recommended only while they are available, at the end of the day of the night or refresh."""

    kind: ClassVar[str] = "available"
    is_filter: ClassVar[bool] = True

    since: Text | None = Field(None, alias="from")
    until: Text | None = None
    file: Text | None = None
    missing: Literal["available", "unavailable"] = "available"

    @model_validator(mode="after")
    def _a_source_is_named(self) -> Available:
        if self.file is None and self.since is None and self.until is None:
            raise ValueError("names no times: add from or until (columns of items), or file")
        if self.file is not None and (self.since is not None or self.until is not None):
            raise ValueError("file has the columns item_id, from and until: remove the keys from and until")
        return self


class NotAgain(Rule):
    """Items that a user was shown often are not recommended to that user for a while."""

    kind: ClassVar[str] = "not_again"
    is_filter: ClassVar[bool] = True

    file: Text
    user_id: Text = "user_id"
    item_id: Text = "item_id"
    time: Text = "time"
    window_days: float = Field(7.0, gt=0, le=_DAYS)
    times: int = Field(1, ge=1, le=1_000_000)
    cool_down_days: float = Field(7.0, gt=0, le=_DAYS)


class Boost(OfItems):
    """The odds of the items are multiplied by a factor; with half_life_days, it decays towards 1 with the age."""

    kind: ClassVar[str] = "boost"

    factor: float = Field(gt=0, ge=1e-6, le=1e6)
    half_life_days: float | None = Field(None, gt=0, le=_DAYS)
    since: Text | None = None

    @model_validator(mode="after")
    def _something_is_boosted(self) -> Boost:
        if self.half_life_days is None and self.since is not None:
            raise ValueError("since is the time from which a boost decays: add half_life_days, or remove since")
        if self.half_life_days is None and not self.chooses_items:
            raise ValueError("names no items: add items, items_file or where, or half_life_days to boost by age")
        return self


class Diversity(_Table):
    """The first ``top`` items are chosen from the first ``pool`` by maximal marginal relevance."""

    kind: ClassVar[str] = "diversity"
    name: ClassVar[str] = "diversity"

    weight: float = Field(alias="lambda", ge=0, le=1)
    on: Text = "vectors"
    top: int = Field(10, ge=1, le=_MOST_RANK)
    pool: int | None = Field(None, ge=1, le=_MOST_RANK)

    @model_validator(mode="after")
    def _pool_is_large_enough(self) -> Diversity:
        if self.pool is not None and self.pool < self.top:
            raise ValueError(f"pool = {self.pool} is below top = {self.top}: there would be nothing to choose from")
        return self

    @property
    def considered(self) -> int:
        """Number of items among which the first ones are chosen."""
        return self.pool or 4 * self.top


class Cap(Rule):
    """At most so many items of a group among the first ``top`` items of a user."""

    kind: ClassVar[str] = "cap"

    by: Text
    most: int = Field(ge=0, le=_MOST_RANK)
    top: int | None = Field(None, ge=1, le=_MOST_RANK)


class Pin(OfUsers):
    """Items at fixed ranks: the first one at ``rank``, the others after it."""

    kind: ClassVar[str] = "pin"

    items: Ids
    rank: int = Field(1, ge=1, le=_MOST_RANK)


class RuleBook(_Table):
    """All rules of rules.toml, in its order within each kind."""

    deny: tuple[Deny, ...] = ()
    allow: tuple[Allow, ...] = ()
    available: tuple[Available, ...] = ()
    not_again: tuple[NotAgain, ...] = ()
    boost: tuple[Boost, ...] = ()
    diversity: Diversity | None = None
    cap: tuple[Cap, ...] = ()
    pin: tuple[Pin, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> RuleBook:
        twice = [name for name, count in Counter(rule.name for rule in self.rules).items() if count > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}: give each a name of its own")
        return self

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that have names of their own, in the order in which they are applied."""
        return (*self.filters, *self.boost, *self.cap, *self.pin)

    @property
    def filters(self) -> tuple[Deny | Allow | Available | NotAgain, ...]:
        """The rules that remove items."""
        return (*self.deny, *self.allow, *self.available, *self.not_again)

    def __bool__(self) -> bool:
        return bool(self.rules) or self.diversity is not None

    @property
    def digest(self) -> str:
        """Digest of all rules."""
        return digest(self.model_dump(mode="json", by_alias=True))

    def described(self) -> Iterator[tuple[str, str]]:
        """Kind and name of each rule, in the order in which they are applied."""
        diversity = () if self.diversity is None else (self.diversity,)
        for rule in (*self.filters, *self.boost, *diversity, *self.cap, *self.pin):
            yield rule.kind, rule.name


def _at_most_one(rule: Rule, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if getattr(rule, key) is not None]
    if len(given) > 1:
        raise ValueError(f"has {given[0]} and {given[1]}: keep one of them, or write two rules")


def parse(values: dict[str, Any], where: str) -> RuleBook:
    """Validate rules that were read from ``where``.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is out of range, or two rules have one name. The
            message names the rule.
    """
    try:
        return RuleBook.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(problem, values, where) for problem in error.errors())) from None


def read(path: Path) -> RuleBook:
    """Read rules.toml; no rules if there is no such file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or see :func:`parse`.
    """
    return parse(read_toml(path), str(path)) if path.exists() else RuleBook()


def _explained(problem: Any, values: dict[str, Any], where: str) -> str:
    kind, *place = problem["loc"] or ("",)
    rule, table = values.get(kind), f"[[{kind}]]"
    if place and isinstance(place[0], int) and isinstance(rule, list):
        position = place.pop(0)
        rule = rule[position]
        name = rule.get("name") if isinstance(rule, dict) else None
        table = f"[[{kind}]] {name!r}" if isinstance(name, str) else f"[[{kind}]] number {position + 1}"
    elif kind == "diversity":
        table = "[diversity]"
    key, said = ".".join(map(str, place)), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        if not key:
            kinds = ", ".join(RuleBook.model_fields)
            return f"{where}: unknown kind of rule {kind!r}. The kinds are {kinds}."
        model = next((of for of in KINDS if of.kind == kind), None)
        known = ", ".join(field.alias or name for name, field in model.model_fields.items()) if model else ""
        return f"{where}: {table}: unknown key {key!r}. The keys are {known}."
    if problem["type"] == "missing":
        return (
            f'{where}: {table}: {key} is missing. Add it, such as name = "in stock".'
            if key == "name"
            else (f"{where}: {table}: {key} is missing. Add it.")
        )
    if problem["type"] == "tuple_type" and key:
        return f'{where}: {table}: {key} = {short(repr(problem["input"]))}: give a list, such as ["A1", "A2"].'
    if problem["type"] == "tuple_type":
        return f"{where}: {kind} is a list of rules: write [[{kind}]] in double brackets."
    value = "" if isinstance(problem["input"], dict) else f" = {short(repr(problem['input']))}"
    of = f"{table}: " if kind else ""
    return f"{where}: {of}{f'{key}{value}: ' if key else ''}{said}."


KINDS: tuple[type[Rule] | type[Diversity], ...] = (Deny, Allow, Available, NotAgain, Boost, Diversity, Cap, Pin)
"""The kinds of rules, in the order in which they are applied."""
