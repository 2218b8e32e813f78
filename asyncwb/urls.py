"""URLs as they may be shown: without credentials."""

import re
from typing import Final

# Up to the last @: passwords come with unescaped slashes, question marks and blanks, and in URLs whose slashes were
# forgotten. Too much may be hidden by that, never too little.
_CREDENTIALS: Final = re.compile(
    r"(?<=://)(?:(?!/)|(?=[^@]*:[^@]*@)).*@|(?<![^\s'\"(=<,])[^\s:@/]*:(?!//)\S*@", re.DOTALL
)
# Everything in a query whose name hints at a secret; options of unknown plugins pass here too.
# Also outside of a URL, as drivers quote their settings: `password=x`, `"token": "x"`.
_SECRET_OPTION: Final = re.compile(
    r"""(?i)([\w.-]*(?:(?:pass|pwd|secret|token|credential|key_?file)[\w.-]*["']?\s*[=:]\s*|user(?:name)?=))"""
    r"""(?:"[^"]*"|'[^']*'|[^\s&;,#]+)"""
)


def redact(text: str) -> str:
    """A URL, or a message that may quote one, with its user, password and secret-looking options replaced by `***`.

    >>> redact("redis://:hunter2@db:6379/0?password=x")
    'redis://***@db:6379/0?password=***'
    """
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub("***@", text))
