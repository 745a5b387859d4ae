"""Prompts that the grammar does not understand, through a language model behind an OpenAI-compatible endpoint.

What comes back is a draft of the same schema and passes the same checks as any other; it is data and never executed.
What fails them goes back with the error, MAX_REPAIRS times. Invariant: the key is read from the environment at each
call, sent in one header, and stands in no message and no log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from aworker.errors import RequestDeclined
from aworker.trading.rules import INDICATORS, SERIES
from aworker.trading.strategies.strategy import Draft, StrategyInvalid, draft_from_json, draft_schema

if TYPE_CHECKING:
    import httpx2

MAX_REPAIRS = 2
MAX_ANSWER_BYTES = 1 << 20
REQUEST_TIMEOUT_S = 50.0

_RETRY_STATUS = frozenset((429, 500, 502, 503, 504))
_RETRY_WAIT_S = 1.0

_INSTRUCTIONS = f"""You turn a trader's words into a strategy as one JSON object of the given schema, and nothing else.

The fields entry and exit are conditions, rank is a number, all in this rule language:
- values of a bar: {", ".join(SERIES)}
- functions:
{chr(10).join(f"  {signature}" for signature in INDICATORS.values())}
- numbers, + - * /, the comparisons < <= > >=, and, or, not, parentheses. Percentages are in percent: 5 is 5%.
Only long trades exist. stop_loss, take_profit and trailing_stop are fractions: 0.05 is 5%. No symbols: every symbol.
Leave out what the words do not ask for. Never drop a part of what they do ask for: when the language cannot say it,
answer {{"error": "what cannot be said"}} instead.
When a current strategy is given, the words change it: keep everything else as it is."""


class LanguageModelFailed(RequestDeclined):
    """The language model gave no strategy that passes the checks, or could not be reached."""


class _Refusal(msgspec.Struct):
    error: str


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class LanguageModel:
    """A chat completions endpoint, such as ``https://host/v1``, and the model that is asked there.

    ``api_key_env`` names the environment variable that holds the key; unset, no key is sent.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "AWORKER_LLM_API_KEY",
        *,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        retry_wait_s: float = _RETRY_WAIT_S,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._model = model
        self._api_key_env = api_key_env
        self._request_timeout_s = request_timeout_s
        self._retry_wait_s = retry_wait_s

    async def draft(self, prompt: str, current: Draft | None = None) -> Draft:
        """Ask for the strategy that a prompt describes, or for ``current`` changed as it says.

        Raises LanguageModelFailed.
        """
        try:
            import httpx2
        except ImportError:
            raise LanguageModelFailed(
                "llm.base_url must be used with the package httpx2, was without; install aworker[llm]"
            ) from None
        words = f"The words:\n{prompt}"
        if current is not None:
            words += f"\n\nThe current strategy:\n{msgspec.json.encode(current).decode()}"
        messages = [{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": words}]
        async with httpx2.AsyncClient(timeout=self._request_timeout_s) as client:
            error = ""
            for _ in range(1 + MAX_REPAIRS):
                answer = await self._ask(client, messages)
                _raise_refusal(answer)
                try:
                    return draft_from_json(_json_part(answer))
                except StrategyInvalid as invalid:
                    error = str(invalid)
                messages += [
                    {"role": "assistant", "content": answer},
                    {
                        "role": "user",
                        "content": f"That is not valid: {error}\nAnswer with the corrected JSON object only.",
                    },
                ]
        raise LanguageModelFailed(
            f"the language model must answer with a valid strategy, did not in {1 + MAX_REPAIRS} answers; {error}"
        )

    async def _ask(self, client: httpx2.AsyncClient, messages: list[dict[str, str]]) -> str:
        import httpx2

        body = {
            "model": self._model,
            "messages": messages,
            "temperature": 0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "strategy", "schema": draft_schema()}},
        }
        for is_last in (False, True):
            try:
                status, answer = await self._post(client, body)
            except httpx2.HTTPError as error:
                if is_last:
                    raise self._failed(f"{type(error).__name__}: {error}") from None
            else:
                if status == 200:
                    return self._content(answer)
                if is_last or status not in _RETRY_STATUS:
                    raise self._failed(f"status {status}: {answer[:200].decode(errors='replace')}")
            await anyio.sleep(self._retry_wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[int, bytes]:
        key = os.environ.get(self._api_key_env)
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        async with client.stream("POST", self._url, content=msgspec.json.encode(body), headers=headers) as response:
            answer = bytearray()
            async for part in response.aiter_bytes():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise self._failed(f"more than {MAX_ANSWER_BYTES:,} bytes")
            return response.status_code, bytes(answer)

    def _content(self, answer: bytes) -> str:
        try:
            completion = msgspec.json.decode(answer, type=_Completion)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._failed(f"no chat completion ({error})") from None
        content = completion.choices[0].message.content if completion.choices else None
        if not content:
            raise self._failed("a completion without content")
        return content

    def _failed(self, what: str) -> LanguageModelFailed:
        key = os.environ.get(self._api_key_env)
        # A server may echo the request, its key included.
        shown = what.replace(key, "***") if key else what
        return LanguageModelFailed(f"llm.base_url must answer a chat completion, was {shown}; check the [llm] section")


def _json_part(answer: str) -> str:
    # Models without a response_format put the object between words or in a fence.
    start, end = answer.find("{"), answer.rfind("}")
    return answer[start : end + 1] if 0 <= start < end else answer


def _raise_refusal(answer: str) -> None:
    try:
        refusal = msgspec.json.decode(_json_part(answer), type=_Refusal)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    raise LanguageModelFailed(f"prompt must be a strategy that the rules can say, was not; {refusal.error}")
