"""The user's account at Kaggle: the competition, its rules, and what Kaggle and the network can refuse, in a line each.

kagglehub finds the credentials (https://github.com/Kaggle/kagglehub#authenticate); no text that leaves this room has
them in it.
"""

from __future__ import annotations

import base64
import importlib.util
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fkpsearch.errors import InputError, Problem, short

COMPETITION = "facial-keypoints-detection"

SITE = f"https://www.kaggle.com/c/{COMPETITION}"

PLACE = "Kaggle"

SIGN_IN = (
    "make a token at https://www.kaggle.com/settings/api and put it into KAGGLE_API_TOKEN or ~/.kaggle/access_token "
    "(kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY, will do)"
)

AGAIN = "look after the network, then run the same command again: what is here is kept"

_SPENT = re.compile(r"allowance|too many|\blimit\b|quota|per day|today", re.IGNORECASE)
"""What Kaggle says of one submission too many, with a status that it uses for much else"""


@contextmanager
def at_kaggle() -> Iterator[None]:
    """What kagglehub, requests and Kaggle raise within, as an InputError in one line without credentials."""
    if importlib.util.find_spec("kagglehub") is None:
        rule = "needs kagglehub, which is not installed"
        raise InputError(Problem(PLACE, rule, advice="pip install 'fkpsearch[kaggle]'"))
    import kagglehub.exceptions as known
    import requests

    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    try:
        yield
    except InputError:
        raise
    except (known.UnauthenticatedError, known.CredentialError):
        raise InputError(Problem(PLACE, "no credentials were found", advice=SIGN_IN)) from None
    except (known.BackendError, known.KaggleEnvironmentError, known.NotFoundError) as why:
        raise InputError(Problem(PLACE, f"refuses: {_line(str(why))}")) from None
    except requests.HTTPError as why:
        raise InputError(_refused(why)) from None
    except requests.exceptions.InvalidJSONError:
        raise InputError(Problem(PLACE, "gives an answer that is not Kaggle's", advice=AGAIN)) from None
    except requests.Timeout:
        raise InputError(Problem(PLACE, "does not answer in time", advice=AGAIN)) from None
    except requests.RequestException as why:
        raise InputError(Problem(PLACE, f"cannot be reached: {_reason(why)}", advice=AGAIN)) from None


def check_credentials(*, needed: bool = True) -> None:
    """Raises InputError where their file is damaged or, where they are ``needed``, there are none."""
    from kagglehub.config import get_kaggle_credentials

    try:
        found = get_kaggle_credentials()
    except (ValueError, TypeError, OSError) as why:
        raise InputError(Problem(PLACE, f"the credentials cannot be read: {_line(str(why))}", advice=SIGN_IN)) from None
    if found is None and needed:
        raise InputError(Problem(PLACE, "no credentials were found", advice=SIGN_IN))


def _refused(why: Any) -> Problem:
    """What Kaggle's status and words mean."""
    response = why.response
    status, said = (0, "") if response is None else _answer(response)
    spent = bool(_SPENT.search(said))
    words = f": {said}" if said else ""
    if status == 401:
        return Problem(PLACE, "does not accept the credentials", advice=SIGN_IN)
    if status == 429 or (status in (400, 403) and spent):
        rule = f"takes no more for now{words}"
        return Problem(PLACE, rule, advice="submissions are counted a day, which ends at midnight UTC; try again later")
    if status == 403:
        advice = f"accept the competition's rules at {SITE}/rules, with the account of the credentials"
        return Problem(PLACE, f"does not allow it{words}", advice=advice)
    if status == 404:
        return Problem(PLACE, f"does not know {COMPETITION}, or not what was asked of it{words}", advice=f"see {SITE}")
    if status >= 500:
        return Problem(PLACE, f"has trouble of its own (status {status}){words}", advice="try again later")
    return Problem(PLACE, f"refuses (status {status}){words}")


def _answer(response: Any) -> tuple[int, str]:
    """Status and words of an answer: Kaggle may put both into JSON, whatever its status is."""
    status, said = response.status_code, ""
    try:
        told = response.json()
        status, said = max(status, int(told.get("code", 0))), str(told.get("message", ""))
    except (ValueError, TypeError, AttributeError):
        pass
    return status, _line(said).rstrip(".")


def _reason(why: BaseException) -> str:
    """The last cause of a network's error, which the first wraps in names of objects."""
    inner: BaseException | None = why
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        reason = getattr(inner, "reason", None)
        inner = reason if isinstance(reason, BaseException) else inner.__cause__ or inner.__context__
    return type(why).__name__


def _line(text: str) -> str:
    """A text in one line of bearable length, without credentials."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return short(" ".join(text.split()), 200)


def _secrets() -> list[str]:
    """The credentials as they are and as they go over the line, the longest first."""
    from kagglehub.config import get_kaggle_credentials

    try:
        found = get_kaggle_credentials()
    except (ValueError, TypeError, OSError):
        return []
    if found is None:
        return []
    pair = f"{found.username}:{found.key}" if found.key else ""
    texts = {found.key, found.api_key, pair and base64.b64encode(pair.encode()).decode()}
    return sorted((text for text in texts if text), key=len, reverse=True)
