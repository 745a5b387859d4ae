"""Prompts to strategies, without a language model: what people write, or the rules themselves, into checked rules.

  lexicon.toml  what words mean; grammar.txt  how they go together
  lattice       a prompt's words, with every meaning of every phrase
  chart         all cheap ways to read them under the grammar, of meanings that phrases.py makes
  series, conditions, clauses   what was read -> rule texts, limits, symbols, assumptions
  edits         the same against a strategy that exists: "set the RSI period to 21"
  refusal       why not, as words and as data

Invariant: any text gives a draft whose rules compile, or PromptNotUnderstood; every word that bears meaning is part of
the reading, or the prompt is refused whole: a strategy trades money, so a half that is dropped in silence is worse.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from textwrap import shorten
from typing import Any, NamedTuple, TypeVar

import msgspec

from aworker.trading.prompts import clauses, edits
from aworker.trading.prompts.clauses import Read, shown, templates
from aworker.trading.prompts.refusal import PromptNotUnderstood
from aworker.trading.prompts.series import NotRead
from aworker.trading.strategies.strategy import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    Draft,
    FieldUnknown,
    Risk,
    Rules,
    StrategyInvalid,
    apply_fields,
    check_draft,
    describe,
    is_source,
    rules_from_source,
    source_fields,
)

Said = TypeVar("Said")
__all__ = ["PromptNotUnderstood", "Understood", "edit_from_prompt", "strategy_from_prompt", "understand"]


class Understood(NamedTuple):
    """What a prompt was read as, and what nobody said and was assumed."""

    draft: Draft
    assumptions: tuple[str, ...]
    is_mended: bool = False
    """Whether a typing error was read as what it is near to."""


def strategy_from_prompt(prompt: str) -> Draft:
    """Read a prompt into a new strategy. Raises PromptNotUnderstood."""
    return understand(prompt).draft


def edit_from_prompt(prompt: str, current: Rules, name: str, made_by: str = "") -> Draft:
    """Read a prompt as a change of ``current``, the rules of the strategy called ``name``.

    What the prompt does not speak of stays, also where it is written as fields; ``exit: none`` takes one away. "Create
    a ... strategy" describes a strategy whole and replaces all of it. A name that tells of the rules, since nobody gave
    one in ``made_by``, the prompt that made them, is made anew where they change. Raises PromptNotUnderstood.
    """
    return understand(prompt, current, name, made_by).draft


def understand(prompt: str, current: Rules | None = None, name: str = "", made_by: str = "") -> Understood:
    """Read a prompt into a new strategy, or as a change of ``current``. Raises PromptNotUnderstood."""
    _check_length(prompt)
    if current is None:
        return _draft_from_source(prompt) if is_source(prompt) else _draft_from_words(prompt)
    read = _edit_from_source if is_source(prompt) else _edit_from_words
    made = read(prompt, current, name)
    if made.draft.name != name or made.draft.rules == current or not _tells_of_rules(name, current, made_by):
        return made
    return made._replace(draft=msgspec.structs.replace(made.draft, name=_rules_title(made.draft.rules)))


def _draft_from_words(prompt: str) -> Understood:
    said = _refused_as_words(prompt, lambda: clauses.read(prompt))
    made = _draft(said.name or said.title or _short(prompt), _rules(said), prompt, said.assumptions)
    return made._replace(is_mended=said.is_mended)


def _edit_from_words(prompt: str, current: Rules, name: str) -> Understood:
    if edits.asks_for_new(prompt):
        return _draft_from_words(prompt)
    edited = _refused_as_words(prompt, lambda: edits.read(prompt, current))
    made = _draft(edited.name or name, edited.rules, prompt, edited.assumptions)
    return made._replace(is_mended=edited.is_mended)


def _refused_as_words(prompt: str, read: Callable[[], Said]) -> Said:
    try:
        return read()
    except NotRead as error:
        raise PromptNotUnderstood(
            str(error),
            understood=_understood(prompt),
            unknown=error.words or prompt.strip(),
            choices=error.choices,
            unsupported=error.unsupported,
        ) from None


def _understood(prompt: str) -> tuple[str, ...]:
    """Return what the prompt's sentences say each by itself, for a person to see how far it was read."""
    lines: list[str] = []
    for sentence in clauses.sentences(prompt)[:12]:
        with suppress(NotRead):
            lines.append(" ".join(shown(clauses.read(sentence)).split("\n")))
    return tuple(lines)


def _rules(said: Read) -> Rules:
    risk: dict[str, Any] = dict(said.risk)
    return Rules(
        entry=said.entry,
        exit=said.exit,
        rank=said.rank,
        symbols=said.symbols or None,
        timeframe=said.timeframe or "1d",
        risk=Risk(**risk),
    )


def _check_length(prompt: str) -> None:
    if not prompt.strip():
        raise PromptNotUnderstood("it was blank; describe when to buy", rule="say what the strategy does")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        rule = f"be at most {MAX_PROMPT_CHARACTERS:,} characters"
        raise PromptNotUnderstood(f"it has {len(prompt):,}; cut it", rule=rule)


def _draft_from_source(prompt: str) -> Understood:
    try:
        rules = rules_from_source(prompt)
        name = source_fields(prompt).get("name")
    except StrategyInvalid as error:
        return _words_instead(lambda: _draft_from_words(prompt), error, prompt)
    return _draft(name or _rules_title(rules), rules, prompt)


def _edit_from_source(prompt: str, current: Rules, name: str) -> Understood:
    try:
        fields = source_fields(prompt)
        rules = apply_fields(current, fields)
    except StrategyInvalid as error:
        return _words_instead(lambda: _edit_from_words(prompt, current, name), error, prompt)
    return _draft(fields.get("name", name), rules, prompt)


def _words_instead(read: Callable[[], Understood], error: StrategyInvalid, prompt: str) -> Understood:
    # "Exit: RSI above 80" begins like rules and is words; when it is neither, the rules' own error says more.
    with suppress(StrategyInvalid, PromptNotUnderstood):
        with suppress(FieldUnknown):
            source_fields(prompt)
        made = read()
        if not made.is_mended:
            return made
    declined = PromptNotUnderstood(str(error), unknown=prompt.strip(), is_whole=True)
    for note in getattr(error, "__notes__", ()):
        declined.add_note(note)
    raise declined


def _draft(name: str, rules: Rules, prompt: str, assumptions: tuple[str, ...] = ()) -> Understood:
    described = describe(rules)
    if assumptions:
        described += f" Assumed: {'; '.join(assumptions)}."
    try:
        return Understood(check_draft(Draft(name, described[:MAX_DESCRIPTION_CHARACTERS], rules)), assumptions)
    except StrategyInvalid as error:
        raise PromptNotUnderstood(str(error), unknown=prompt.strip(), rule="be a strategy that can be traded") from None


def _tells_of_rules(name: str, rules: Rules, made_by: str) -> bool:
    if name == _rules_title(rules):
        return True
    try:
        said = clauses.read(made_by)
    except NotRead:
        return False
    return said.name is None and name == (said.title or _short(made_by))


def _rules_title(rules: Rules) -> str:
    for title in templates():
        usual = clauses.template_rules(title)
        if (usual.entry, usual.exit) == (rules.entry, rules.exit):
            return title
    return rules.entry[:MAX_NAME_CHARACTERS]


def _short(prompt: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in prompt[:200])
    return shorten(" ".join(printable.split()), 60, placeholder="...") or "Strategy"
