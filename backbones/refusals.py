"""Write the error messages for weights that cannot be fetched from the Hub."""

from collections.abc import Sequence


def unreachable(repository: str, licence: str | None, missing: Sequence[str]) -> str:
    """Say that the Hub cannot be reached and that weights are not on this machine.

    Args:
        repository: a Hub id.
        licence: the licence that must be accepted before the download; None where nothing is known of the
            repository, so that its name may be a wrong one.
        missing: names or patterns of the missing files; empty where all files are missing.
    """
    if missing:
        return (
            f"The weights of {repository} are here in part, without {missing[0]}, and the Hub cannot be "
            f"reached; {_advice(repository, licence)}"
        )
    return (
        f"The weights of {repository} are not on this machine and the Hub cannot be reached; "
        f"{'' if licence else f'there is no folder {repository} either: check the name, or '}"
        f"{_advice(repository, licence)}"
    )


def refused(repository: str, licence: str | None, error: Exception) -> str:
    """Say why the Hub refused a download, and what to do."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    page = _page(repository, licence)
    if isinstance(error, GatedRepoError) and get_token() is None:
        return (
            f"The weights of {repository} are gated and this machine has no token; accept the licence {page} "
            "and run: hf auth login"
        )
    if isinstance(error, GatedRepoError):
        return (
            f"The weights of {repository} are gated and this machine's token has no access; accept the "
            f"licence {page} with the account of the token, or take another by: hf auth login"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response else None
    if status == 401 and get_token() is not None and not isinstance(error, RepositoryNotFoundError):
        return f"The Hub refuses this machine's token for {repository}; make another by: hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder and no repository on the Hub called {repository}; check the name, or, where "
            "it is private, run: hf auth login"
        )
    return (
        f"The weights of {repository} could not be downloaded ({type(error).__name__}); "
        f"{_advice(repository, licence)}"
    )


def _advice(repository: str, licence: str | None) -> str:
    """Say how to fetch a repository by hand."""
    return f"accept its licence {_page(repository, licence)} and run: hf download {repository}"


def _page(repository: str, licence: str | None) -> str:
    """Name the licence, if there is one, and the page where it is accepted."""
    return f"{f'({licence}) ' if licence else ''}at https://huggingface.co/{repository}"
