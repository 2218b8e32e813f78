"""Removes credentials from URLs and errors, so that they may be shown."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from asyncwb.errors import SaveError

# Matches up to the last @: passwords may have unescaped slashes, question marks and blanks, and occur in URLs whose
# slashes were forgotten. This may hide too much, but never too little.
_CREDENTIALS: Final = re.compile(
    r"(?<=://)(?:(?!/)|(?=[^@]*:[^@]*@)).*@|(?<![^\s'\"(=<,])[^\s:@/]*:(?!//)\S*@", re.DOTALL
)
# Everything in a query whose name hints at a secret, since options of unknown plugins pass here, too.
# It also matches outside of a URL, as drivers quote their settings: `password=x`, `"token": "x"`.
_NAME: Final = r"[\w.-]*(?:(?:pass|pwd|secret|token|credential|key_?file)[\w.-]*"
_SECRET_OPTION: Final = re.compile(rf"""(?i)({_NAME}["']?\s*[=:]\s*|user(?:name)?=))(?:"[^"]*"|'[^']*'|[^\s&;,#]+)""")
_OPTION_OF_URL: Final = re.compile(rf"(?i)[?&](?:{_NAME}|user(?:name)?))=([^&#]*)")

_MOST_URLS: Final = 100
_SHORTEST: Final = 4
_LONG: Final = 8
_COMMON: Final = frozenset(
    {
        "admin", "administrator", "app", "asyncwb", "data", "database", "default", "guest", "localhost",
        "mongo", "mongodb", "none", "null", "pass", "password", "postgres", "postgresql", "primary", "public",
        "redis", "root", "secret", "sentinel", "server", "service", "sqlite", "test", "true", "false", "user",
        "username", "users", "valkey",
    }
)  # fmt: skip
"""Common words of messages. As a password they protect nothing, and hiding them would make messages unreadable."""

_known: deque[re.Pattern[str]] = deque(maxlen=_MOST_URLS)


def redact(text: str) -> str:
    """A URL, or a message that may quote one, with its user, password and secret-looking options replaced by `***`.

    The credentials of all URLs passed to `keep_secret` are replaced, too, wherever they stand.

    >>> redact("redis://:hunter2@db:6379/0?password=x")
    'redis://***@db:6379/0?password=***'
    """
    text = _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub("***@", text))
    for pattern in tuple(_known):  # another thread may add one
        text = pattern.sub("***", text)
    return text


def keep_secret(url: str) -> None:
    """Makes `redact` hide the credentials of this URL from now on, as they stand and percent-decoded.

    Drivers and plugins put them into their own messages, without the URL around them. Credentials of fewer than four
    characters, and common words of messages, aren't hidden: they would be found everywhere. Only the latest hundred
    URLs are remembered.
    """
    words = {word for secret in _secrets(url) for word in _spellings(secret)}
    shown = _SECRET_OPTION.sub("", _CREDENTIALS.sub("", url))
    hidden = [word for word in words if len(word) >= _SHORTEST and word.lower() not in _COMMON and word not in shown]
    if not hidden:
        return
    pattern = re.compile("|".join(map(_findable, sorted(hidden, key=len, reverse=True))))
    if pattern not in _known:
        _known.append(pattern)


def _secrets(url: str) -> Iterator[str]:
    if match := _CREDENTIALS.search(url):
        user, _, password = match[0].removesuffix("@").partition(":")
        yield from (user, password, match[0].removesuffix("@"))
    for match in _OPTION_OF_URL.finditer(url):
        yield match[1]


def _spellings(secret: str) -> set[str]:
    """Returns a secret as it stands in the URL, as the driver gets it, and as `repr` or another URL would show it."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    return (
        plain
        | {repr(word)[1:-1] for word in plain}
        | {quoted(word, safe="", errors="replace") for word in plain for quoted in (quote, quote_plus)}
    )


def _findable(word: str) -> str:
    """Returns a pattern for a word; a short one matches only as a whole word, as it may be part of another."""
    if len(word) >= _LONG:
        return re.escape(word)
    return rf"(?:(?<!\w)|(?<=%[0-9A-Fa-f]{{2}})){re.escape(word)}(?!\w)"


@contextmanager
def without_credentials() -> Iterator[None]:
    """Wraps calls of plugins and drivers: hides credentials in the errors that they raise, and in their causes."""
    try:
        yield
    except Exception as error:
        hide_credentials(error)
        raise


def hide_credentials(error: BaseException) -> None:
    """Removes credentials from an error's message, and from all other errors that its traceback would show."""
    seen: list[BaseException] = [error]
    for each in seen:
        if any(isinstance(arg, str) and redact(arg) != arg for arg in each.args):
            each.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in each.args)
        if notes := getattr(each, "__notes__", None):
            notes[:] = map(redact, notes)
        others = [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            others += each.exceptions
        if isinstance(each, SaveError) and isinstance(each.failed, dict):  # a plugin may have put anything there
            reasons: list[object] = list(each.failed.values())
            others += [reason for reason in reasons if isinstance(reason, BaseException)]
        seen += [other for other in others if other is not None and other not in seen]
    # Some errors make their message from something other than `args`; if it still tells, drop them from the chain.
    for each in seen:
        if each.__cause__ is not None and _tells(each.__cause__):
            each.__cause__ = None
        if each.__context__ is not None and _tells(each.__context__):
            each.__context__ = None


def _tells(error: BaseException) -> bool:
    text = f"{error} {error!r}"
    return redact(text) != text
