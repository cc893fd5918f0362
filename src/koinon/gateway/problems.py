"""What went wrong, as a page: what happened, what did not, and the next step."""

from typing import Final

from starlette.exceptions import HTTPException

from koinon.gateway.facts import Absent
from koinon.gateway.origins import sentence, verbatim
from koinon.gateway.views.parts import ProblemPage, Sentence
from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage, Refused, Unavailable

UNCHANGED: Final = sentence("Nothing was changed: this site only reads. No money moved and no data left its owner.")

_SAID: Final[dict[int, tuple[str, str, str]]] = {
    400: (
        "This address cannot be read",
        "The address holds something that is no number, name or hash.",
        "Go back and follow a link, or use the search field above.",
    ),
    403: (
        "This is not shown to you",
        "The chain or the operator of this site refuses this.",
        "Ask the operator of this site.",
    ),
    404: (
        "There is nothing here",
        "No page of this site has this address.",
        "Use the search field above, or start from the network.",
    ),
    405: (
        "This site only reads",
        "The request asks to change something, and nothing here can be changed.",
        "Use the command line to act: koinon --help.",
    ),
    414: (
        "This address is too long",
        "The address is longer than 2,048 letters and was not read.",
        "Go back and follow a link, or use the search field above.",
    ),
    421: (
        "This site does not know that name",
        "The request names a host that this site does not serve.",
        "Open it as localhost, or have its operator allow the name.",
    ),
    500: (
        "This site made a mistake",
        "The page could not be built, and the mistake is ours.",
        "Reload. If it stays, tell the operator of this site the address and the time.",
    ),
    502: (
        "The chain answers oddly",
        "The chain node sent something that cannot be right, so this page shows nothing rather than a guess.",
        "Reload in a moment. If it stays, the operator should look at the chain node.",
    ),
    503: (
        "The chain cannot be reached",
        "The chain node of this site does not answer now.",
        "Wait a moment and reload; the site tries again by itself.",
    ),
}


def problem(status: int, happened: str | None = None) -> ProblemPage:
    """The page of one status; ``happened`` replaces its general sentence where a better one is known."""
    title, usual, next_step = _SAID.get(status, _SAID[500])
    return ProblemPage(
        status=status,
        title=sentence(title),
        happened=Sentence(text=usual) if happened is None else verbatim(happened),
        unchanged=UNCHANGED,
        next_step=sentence(next_step),
    )


def problem_of(error: Exception, path: str) -> ProblemPage:
    """The page for an error. One that is not ours says nothing of itself: it may hold what nobody should see."""
    match error:
        case Absent():
            return problem(404, str(error))
        case MalformedMessage():
            return problem(502, str(error))
        case Refused():
            return problem(403, str(error))
        case InvalidInput():
            return problem(404 if path == "/find" else 400, str(error))
        case Expired() | Unavailable():
            return problem(503, str(error))
        case HTTPException():
            return problem(error.status_code if error.status_code in _SAID else 400)
    return problem(500)
