"""The arena's page: a source, two results without names, and a question for each quality."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demos import theme
from editkit.errors import EditkitError
from editkit.evaluation.arena import LEFT, QUALITIES, RIGHT, TIE, Contest, Duel, Votes
from editkit.imaging import images

STYLE = """<style>
.arena-picture img { width: 100%; max-height: 45vh; object-fit: contain; }
</style>"""
LOOKS: dict[str, Any] = {
    "theme": theme.theme(),
    "head": theme.head() + STYLE,
    "footer_links": [],
    "run_history": False,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
    "pwa": False,
    "quiet": True,
    "prevent_thread_lock": True,
}
CHOICES = [("Left", LEFT), ("No difference", TIE), ("Right", RIGHT)]
DONE = "You have seen all pairs. Thank you."


class Arena:
    """The components of the page and their handlers.

    Args:
        contest: what is voted on.
        votes: takes the votes.
        qualities: what is asked of each pair.
        folder: takes copies of the pictures, whose names and bytes do not tell whose they are.
    """

    def __init__(self, contest: Contest, votes: Votes, qualities: Sequence[str], folder: Path) -> None:
        self._contest, self._votes, self._folder = contest, votes, folder / "blind"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._secret = secrets.token_bytes(16)
        self.qualities = list(qualities)
        self.voter = gr.BrowserState("", storage_key="editkit-arena-voter")
        self.duel = gr.State(None)
        gr.HTML('<header class="masthead"><h1>Which edit is better?</h1></header>')
        self.status = gr.HTML(elem_id="arena-status")
        self.asked = gr.Markdown(elem_id="arena-instruction")
        with gr.Row():
            self.source = self._picture("Original")
        with gr.Row(elem_id="arena-results"):
            self.left, self.right = self._picture("Left"), self._picture("Right")
        self.answers = [
            gr.Radio(CHOICES, label=QUALITIES.get(quality, f"Which one is better in {quality}?"))
            for quality in self.qualities
        ]
        with gr.Row():
            self.send = gr.Button("Vote", variant="primary", elem_id="arena-vote")

    def _picture(self, label: str) -> gr.Image:
        return gr.Image(
            label=label, type="filepath", interactive=False, buttons=["fullscreen"], min_width=120,
            elem_classes=["arena-picture"],
        )  # fmt: skip

    @property
    def parts(self) -> list[Any]:
        """Return the parts of the page that a new pair changes."""
        return [
            self.voter, self.duel, self.status, self.asked, self.source, self.left, self.right, self.send,
            *self.answers,
        ]  # fmt: skip

    def show(self, voter: str, note: str = "") -> list[Any]:
        """The next pair of a voter, who gets a name on the first visit."""
        voter = voter or secrets.token_hex(16)
        seen, counts = self._votes.seen(voter, self.qualities), self._votes.counts(self.qualities)
        duel = self._contest.next(voter, seen, counts)
        cleared = [gr.Radio(value=None, visible=duel is not None) for _ in self.answers]
        if duel is None:
            nothing = gr.Image(value=None, visible=False)
            return [
                voter, None, theme.status(DONE), "", nothing, nothing, nothing, gr.Button(visible=False),
                *cleared,
            ]  # fmt: skip
        source = self._source(duel.item)
        return [
            voter, duel, note, f"**{_plain(self._contest.items[duel.item].instruction)}**",
            gr.Image(value=source, visible=source is not None), self._blind(duel.left, duel.item),
            self._blind(duel.right, duel.item), gr.Button(visible=True), *cleared,
        ]  # fmt: skip

    def vote(self, voter: str, duel: Duel | None, *answers: str | None) -> list[Any]:
        """Keep the answers, at least one, and show the next pair."""
        given = {name: answer for name, answer in zip(self.qualities, answers, strict=True) if answer}
        if duel is None:
            return self.show(voter)
        if not given:
            note = theme.problem("Answer at least one question, or say that there is no difference.")
            return [voter, duel, note, *[gr.skip()] * (len(self.parts) - 3)]
        try:
            self._votes.add(voter, duel, given)
        except EditkitError as error:
            return [voter, duel, theme.problem(str(error)), *[gr.skip()] * (len(self.parts) - 3)]
        return self.show(voter, theme.status("Counted. The next pair:"))

    def _source(self, item: str) -> str | None:
        picture = self._contest.source(item)
        return None if picture is None else self._copied("source", item, picture)

    def _blind(self, contestant: str, item: str) -> str:
        return self._copied(contestant, item, self._contest.picture(contestant, item))

    def _copied(self, whose: str, item: str, picture: Any) -> str:
        """A copy without metadata, whose name is a keyed digest."""
        name = hashlib.blake2b(f"{whose}\0{item}".encode(), key=self._secret, digest_size=16).hexdigest()
        path = self._folder / f"{name}.png"
        if not path.exists():
            images.save(picture, path)
        return str(path)


def build(contest: Contest, votes: Votes, qualities: Sequence[str], folder: Path) -> Any:
    """The page of a contest."""
    with gr.Blocks(title="editkit arena", analytics_enabled=False) as page:
        arena = Arena(contest, votes, qualities, folder)
        page.load(arena.show, [arena.voter], arena.parts, api_visibility="private")
        arena.send.click(
            arena.vote, [arena.voter, arena.duel, *arena.answers], arena.parts, api_visibility="private"
        )
    return page


def _plain(text: str) -> str:
    """An instruction as Markdown that shows its own letters."""
    return "".join(
        f"\\{each}" if each in "\\`*_{}[]<>()#+-.!|~$&" else each for each in " ".join(text.split())
    )
