"""A refusal: what was read, what was not, and what can be chosen, as words and as data."""

from __future__ import annotations

from typing import Any

from aworker.errors import RequestDeclined

SHOWN_CHARACTERS = 200
_EXAMPLE = (
    "Say it like 'buy when RSI(14) drops below 30, sell above 70, 5% stop loss, only AAPL and MSFT', or write rules: "
    "entry: ..."
)


class PromptNotUnderstood(RequestDeclined):
    """A prompt, or a part of it, is not understood; nothing of it is used.

    ``reason`` says why; ``understood`` holds what was read by itself, ``unknown`` the words that were not;
    ``choices`` are ready prompts where it reads two ways, ``unsupported`` names what cannot be said. With ``is_whole``
    the reason is the message.
    """

    def __init__(
        self,
        reason: str,
        *,
        understood: tuple[str, ...] = (),
        unknown: str = "",
        choices: tuple[str, ...] = (),
        unsupported: str = "",
        rule: str = "be understood whole",
        is_whole: bool = False,
    ) -> None:
        shown = unknown if len(unknown) <= SHOWN_CHARACTERS else unknown[: SHOWN_CHARACTERS - 3] + "..."
        parts = [f"prompt must {rule}, was not{f' at {shown!r}' if shown else ''}; {reason}"]
        if understood:
            parts.append(f"understood: {'; '.join(understood)}")
        parts += [f"choose: {' | '.join(' '.join(each.split()) for each in choices)}"] if choices else []
        self.message = reason if is_whole else ". ".join([*parts, _EXAMPLE])
        super().__init__(self.message)
        self.reason = reason
        self.understood = list(understood)
        self.unknown = unknown
        self.choices = list(choices)
        self.unsupported = unsupported

    def __str__(self) -> str:
        return self.message

    def as_data(self) -> dict[str, Any]:
        """Return it for a front end: the reason, what was understood, what is open, what can be chosen."""
        return {
            "reason": self.reason,
            "understood": self.understood,
            "open": self.unknown,
            "choices": self.choices,
            "unsupported": self.unsupported or None,
        }
