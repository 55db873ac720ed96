"""What etude asks of a model hub, through huggingface_hub, which is imported when it is asked."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

from etude.errors import HubError
from etude.optional import require

logger = logging.getLogger(__name__)


@functools.cache
def client() -> Any:
    """The one `HfApi`: what is done in its background is done in order."""
    return require("huggingface_hub", "push_to_hub=True").HfApi(library_name="etude")


def create_repository(name: str, token: str | None, private: bool | None, revision: str | None) -> str:
    """Makes a repository and, where a branch is named, the branch, as far as they are not there.

    Args:
        name: of the repository, in the namespace of the token's owner where it has none.
        token: an access token; the one that is logged in if not given.
        private: whether a new repository is private.
        revision: the branch that will be pushed to.

    Returns:
        The repository's full name.

    Raises:
        HubError: the hub refused, or cannot be reached.
        MissingPackageError: huggingface_hub is not installed.
    """
    hub = client()
    try:
        full_name = str(hub.create_repo(name, token=token, private=private, exist_ok=True).repo_id)
        if revision is not None and not revision.startswith("refs/"):
            hub.create_branch(full_name, branch=revision, token=token, exist_ok=True)
    except Exception as error:  # of the network, the hub or the name: all with the same ways out
        raise HubError(
            f"Cannot push to the repository {name!r} of {hub.endpoint}: {first_line(error)} Log in with `hf auth "
            "login` or give a `hub_token` that may write there, check `hub_model_id`, or set `push_to_hub=False`."
        ) from error
    return full_name


def first_line(error: BaseException) -> str:
    """What an error, and the error that caused it, say in one line, with a full stop."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = said if said.endswith(".") else f"{said}."
    return said if error.__cause__ is None else f"{said} {first_line(error.__cause__)}"


class PushInProgress:
    """Pushes that run in the background.

    Attributes:
        jobs: one future a push, in order.
    """

    def __init__(self, jobs: list[Future[Any]] | None = None) -> None:
        self.jobs = [] if jobs is None else jobs

    def is_done(self) -> bool:
        """Whether all have ended, well or not."""
        return all(job.done() for job in self.jobs)

    def wait_until_done(self) -> None:
        """Waits for all of them; an error of a push is not raised here."""
        wait(self.jobs)

    def cancel(self) -> None:
        """Gives up those that have not begun."""
        self.jobs = [job for job in self.jobs if not job.cancel() and not job.done()]

    def last_error(self) -> BaseException | None:
        """Why the last push has failed; None where it has not, or not yet."""
        ended = [job for job in self.jobs if job.done() and not job.cancelled()]
        return ended[-1].exception() if ended else None


def in_background(push: Callable[[], Any], what: str) -> Future[Any]:
    """Runs a push after those that were begun before it; says at once if it fails, and keeps the error.

    Args:
        push: the push.
        what: the name of it in the message.
    """

    def told() -> Any:
        try:
            with without_bars():
                return push()
        except Exception as error:
            logger.warning("The push of %s failed, and the run goes on: %s", what, first_line(error))
            raise

    return client().run_as_future(told)  # type: ignore[no-any-return]


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of huggingface_hub, which would run into that of the training."""
    utils = require("huggingface_hub.utils", "push_to_hub=True")
    shown = not utils.are_progress_bars_disabled()
    if shown:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            utils.enable_progress_bars()
