"""Prompts to strategies, without a language model: ordinary English, or the rules themselves, into checked rules.

  reading     ordinary sentences: a lexicon as data, a grammar, a chart parser

  words       a prompt as words, and a cursor over them
  series      prices, averages, indicators and spans of time -> rule text
  conditions  comparisons, crossings, breakouts, and, or, not -> rule text
  clauses     buy, sell, stop, target, hold, symbols, timeframe, rank, name -> a strategy
  edits       the same against a strategy that exists: "set the RSI period to 21"
  templates   the strategies that have a name of their own
  hints       what a refusal adds to the words that were not understood

Invariant: any text gives a draft whose rules compile, or PromptNotUnderstood; a prompt of which a word is left over is
refused whole, never used in part. The time is linear in the prompt.

Why a grammar and not keyword search: a strategy trades money, so a half that is dropped in silence ("and volume above
...") is worse than a refusal that names the words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from textwrap import shorten

import msgspec

from aworker.trading.prompts.clauses import ClauseReader, PromptNotUnderstood, not_understood
from aworker.trading.prompts.edits import EditReader
from aworker.trading.prompts.reading import meaning
from aworker.trading.prompts.templates import TEMPLATES
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
    source_text,
)

_BY_GRAMMAR = re.compile(
    r"\bback (?:above|over|below|under|up|down)\b|\bfrom (?:the|its) (?:high|highs|peak|top)\b"
    r"|\bcross\w* (?:above|below|over|under) (?:the )?\d+\s*(?:$|[.,;]|and\b|or\b|sell\b)",
    re.IGNORECASE,
)
_NESTED = re.compile(r"[sew]ma\((?!close|open|high|low|volume)")
"""What the phrases read wrong: a crossing back, a trailing stop, 10 over 30, an indicator's own average."""
_FIRM = re.compile(
    r"reads? two ways|different kinds|which [a-z_]+: |never hold|runs from|speaks of|given twice|list of commas"
    r"|before an or|must be a fraction|needs its|say both in full"
)
"""Reasons of the phrases that hold for any reading."""

__all__ = ["PromptNotUnderstood", "edit_from_prompt", "strategy_from_prompt"]


def strategy_from_prompt(prompt: str) -> Draft:
    """Read a prompt into a new strategy. Raises PromptNotUnderstood."""
    _check_length(prompt)
    if is_source(prompt):
        return _draft_from_source(prompt)
    return _draft_from_words(prompt)


def edit_from_prompt(prompt: str, current: Rules, name: str, made_by: str = "") -> Draft:
    """Read a prompt as a change of ``current``, the rules of the strategy called ``name``.

    What the prompt does not speak of stays, also where it is written as fields; ``exit: none`` takes one away. "Create
    a ... strategy" describes a strategy whole and replaces all of it. A name that tells of the rules, since nobody gave
    one in ``made_by``, the prompt that made them, is made anew where they change. Raises PromptNotUnderstood.
    """
    _check_length(prompt)
    read = _edit_from_source if is_source(prompt) else _edit_from_words
    draft = read(prompt, current, name)
    if draft.name != name or draft.rules == current or not _tells_of_rules(name, current, made_by):
        return draft
    return msgspec.structs.replace(draft, name=_rules_title(draft.rules))


def _draft_from_words(prompt: str) -> Draft:
    """Read words by phrases where they are written as the phrases have them, else by the lexicon and its grammar."""
    said: meaning.Read | None = None
    refusal: meaning.NotRead | None = None
    try:
        said = meaning.read(prompt)
    except meaning.NotRead as error:
        refusal = error
        if error.is_trap:
            raise PromptNotUnderstood(
                f"prompt must be a strategy that can be traded, was not; {error}", [], prompt
            ) from None
    if said is None or not (_BY_GRAMMAR.search(prompt) or _NESTED.search(f"{said.entry} {said.exit}")):
        reader = ClauseReader(prompt)
        try:
            reader.read()
        except PromptNotUnderstood as error:
            if said is None:
                error.add_note(f"read as sentences: {refusal}")
                raise
            if _FIRM.search(str(error).partition("; understood:")[0]):
                raise
        else:
            return _draft(reader.name or _title(reader, prompt), reader.rules(), prompt)
    assert said is not None
    rules = Rules(
        entry=said.entry,
        exit=said.exit,
        symbols=said.symbols or None,
        timeframe=said.timeframe or "1d",
        risk=Risk(**said.risk),  # type: ignore[arg-type]
    )
    return _draft(said.name or _short(prompt), rules, prompt, said.assumptions)


def _edit_from_words(prompt: str, current: Rules, name: str) -> Draft:
    reader = EditReader(prompt, current)
    reader.read()
    if reader.is_new and reader.done:
        reason = "it asks for a new strategy and for changes of this one"
        raise not_understood(reader.done, prompt.strip(), reason)
    if reader.is_new:
        return _draft(reader.name or _title(reader, prompt), reader.rules(), prompt)
    return _draft(reader.name or name, reader.edited(), prompt)


def _check_length(prompt: str) -> None:
    if not prompt.strip():
        raise PromptNotUnderstood("prompt must say what the strategy does, was blank; describe when to buy", [], "")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        rule = f"prompt must be at most {MAX_PROMPT_CHARACTERS:,} characters, was {len(prompt):,}; cut it"
        raise PromptNotUnderstood(rule, [], "")


def _draft_from_source(prompt: str) -> Draft:
    try:
        rules = rules_from_source(prompt)
        name = source_fields(prompt).get("name")
    except StrategyInvalid as error:
        return _words_instead(lambda: _draft_from_words(prompt), error, prompt)
    return _draft(name or _rules_title(rules), rules, prompt)


def _edit_from_source(prompt: str, current: Rules, name: str) -> Draft:
    try:
        fields = source_fields(prompt)
        rules = apply_fields(current, fields)
    except StrategyInvalid as error:
        return _words_instead(lambda: _edit_from_words(prompt, current, name), error, prompt)
    return _draft(fields.get("name", name), rules, prompt)


def _words_instead(read: Callable[[], Draft], error: StrategyInvalid, prompt: str) -> Draft:
    # "Exit: RSI above 80" begins like rules and is words; when it is neither, the rules' own error says more.
    try:
        with suppress(FieldUnknown):
            source_fields(prompt)
        return read()
    except (StrategyInvalid, PromptNotUnderstood):
        declined = PromptNotUnderstood(str(error), [], prompt.strip())
        for note in getattr(error, "__notes__", ()):
            declined.add_note(note)
        raise declined from None


def _draft(name: str, rules: Rules, prompt: str, assumptions: tuple[str, ...] = ()) -> Draft:
    described = describe(rules)
    if assumptions:
        described += f" Assumed: {'; '.join(assumptions)}."
    try:
        return check_draft(Draft(name, described[:MAX_DESCRIPTION_CHARACTERS], rules))
    except StrategyInvalid as error:
        raise not_understood(source_text(rules).splitlines(), prompt.strip(), str(error)) from None


def _tells_of_rules(name: str, rules: Rules, made_by: str) -> bool:
    if name == _rules_title(rules):
        return True
    try:
        reader = ClauseReader(made_by)
        reader.read()
    except PromptNotUnderstood:
        return False
    return reader.name is None and name == _title(reader, made_by)


def _rules_title(rules: Rules) -> str:
    for template in TEMPLATES.values():
        usual = template.rules(None)
        if (usual.entry, usual.exit) == (rules.entry, rules.exit):
            return template.title
    return rules.entry[:MAX_NAME_CHARACTERS]


def _title(reader: ClauseReader, prompt: str) -> str:
    if reader.template is not None:
        return reader.template[0].title
    return _short(prompt)


def _short(prompt: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in prompt[:200])
    return shorten(" ".join(printable.split()), 60, placeholder="...") or "Strategy"
