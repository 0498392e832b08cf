"""The ASGI app: OpenAI's image API over a queue of edits, and what an operator watches."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from editkit.errors import EditkitError
from editkit.serving import intake, openai
from editkit.serving.batching import EditQueue
from editkit.serving.body import Body, GoneError
from editkit.serving.lane import Lane
from editkit.serving.logs import PATHS, Logged
from editkit.serving.metrics import Metrics
from editkit.serving.openai import ImageRequest
from editkit.serving.refusals import RefusedError, answer
from editkit.serving.settings import ServerSettings
from editkit.serving.work import Job
from editkit.types import EditResult

log = logging.getLogger("editkit.serving")
CODERS = 4
"""Pictures that are decoded or encoded at once."""
UNFORESEEN = "Something unforeseen went wrong; the server's log has it."
Answer = Callable[[Request], Awaitable[Response]]


class Server:
    """The app and the queue that it fills.

    Args:
        lanes: the devices, whose weights are loaded.
        methods: methods that are offered, the default first.
        settings: the limits.
    """

    def __init__(self, lanes: Sequence[Lane], methods: Sequence[str], settings: ServerSettings) -> None:
        self.methods, self.settings, self.metrics = methods, settings, Metrics()
        self.queue = EditQueue(lanes, settings, self.metrics)
        self._coders, self._started = CapacityLimiter(CODERS), int(time.time())
        routes = [
            Route("/v1/images/edits", self._guarded(self._edits), methods=["POST"]),
            Route("/v1/images/generations", self._guarded(self._generations), methods=["POST"]),
            Route("/v1/models", self._guarded(self._models)),
            Route("/v1/models/{name}", self._guarded(self._models)),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
        ]
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(Logged, metrics=self.metrics)],
            exception_handlers={HTTPException: _http_error, Exception: _unforeseen},
            lifespan=self._life,
        )

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        self.queue.start()
        yield
        await to_thread.run_sync(self.queue.end)

    def _guarded(self, handler: Answer) -> Answer:
        """Ask for the key, and turn errors into answers."""

        async def run(request: Request) -> Response:
            try:
                self._check_key(request)
                _check_address(request)
                return await handler(request)
            except RefusedError as error:
                request.scope["told"] = {"problem": str(error)}
                return error.response()
            except EditkitError as error:
                request.scope["told"] = {"problem": str(error)}
                return answer(str(error), 400, getattr(error, "param", None))
            except GoneError:
                return Response(status_code=499)  # nobody reads it
            except Exception:  # answered here, so that the log and the metrics know of it
                log.exception("A request failed unexpectedly.")
                return answer(UNFORESEEN, 500, code="internal")

        return run

    def _check_key(self, request: Request) -> None:
        if self.settings.api_key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("latin-1")  # the bytes that came; a header is read as Latin-1
        same = hmac.compare_digest(sent, self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not same:
            raise RefusedError("The API key is missing or wrong.", 401, code="invalid_api_key")

    async def _edits(self, request: Request) -> Response:
        body = Body(request.headers, request.receive, self.settings)
        form = await body.form()
        try:
            return await self._answered(body, *intake.of_form(form, self.settings, self.methods))
        finally:
            await form.close()

    async def _generations(self, request: Request) -> Response:
        body = Body(request.headers, request.receive, self.settings)
        if body.kind == "multipart/form-data":  # which can hold references
            form = await body.form()
            try:
                read = intake.of_form(form, self.settings, self.methods, source=False)
                return await self._answered(body, *read)
            finally:
                await form.close()
        asked = openai.read_fields(await body.json(), self.settings, self.methods)
        return await self._answered(body, asked, intake.Pictures())

    async def _models(self, request: Request) -> Response:
        about = self.methods, self.queue.lanes[0].editor.backbone.name, self._started
        if name := request.path_params.get("name"):
            return JSONResponse(openai.model(name, *about))
        return JSONResponse(openai.models(*about))

    async def _health(self, _: Request) -> Response:
        if self.queue.closing:
            return JSONResponse({"status": "closing"}, 503)
        if not self.queue.working:
            return JSONResponse({"status": "a worker has died; start anew"}, 503)
        devices = [lane.device for lane in self.queue.lanes]
        return JSONResponse({"status": "ok", "devices": devices, "methods": list(self.methods)})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _answered(self, body: Body, asked: ImageRequest, pictures: intake.Pictures) -> Response:
        """Edit and answer."""
        intake.check_adapter(asked, self.settings)
        with self.queue.held(asked.count, asked.count * pictures.pixels):
            with self.queue.arriving():
                decode = partial(intake.prepared, asked, pictures)
                jobs = [
                    Job(prepared=each, adapter=asked.adapter)
                    for each in await to_thread.run_sync(decode, limiter=self._coders)
                ]
                self.queue.add(jobs)
            results = await self._results(body, jobs)
            made = await to_thread.run_sync(openai.answer, asked, results, limiter=self._coders)
        return JSONResponse(made)

    async def _results(self, body: Body, jobs: Sequence[Job]) -> list[EditResult]:
        """Wait for jobs, but no longer than a request may take or its client stays.

        Raises:
            RefusedError: where an edit cannot be carried out, or takes too long.
            GoneError: where the client goes away.
        """
        wanted = asyncio.gather(*(asyncio.wrap_future(job.done) for job in jobs))
        wanted.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may be in vain
        gone = asyncio.ensure_future(body.gone())
        try:
            await asyncio.wait(
                (wanted, gone), timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if wanted.done():
                results: list[EditResult] = wanted.result()
            elif gone.done():
                raise GoneError
            else:
                raise RefusedError(
                    f"The edit took over {self.settings.timeout:g} s; ask for fewer steps or pixels.",
                    504,
                    code="timeout",
                )
        finally:
            self.queue.cancel([job for job in jobs if not job.done.done()])
            wanted.cancel()
            gone.cancel()
        for result in results:
            if result.error is not None:
                raise RefusedError(result.error, 422, code="not_possible")
        return results


def _check_address(request: Request) -> None:
    """Refuse fields in the address, which would be left out in silence; others, such as Azure's, are not."""
    if found := [name for name in request.query_params if name in openai.KNOWN]:
        raise RefusedError(f"{found[0]} stands in the address; send it in the body.", param=found[0])


async def _http_error(request: Request, error: Any) -> Response:
    """Answer an address or a method that there is not."""
    path, headers = request.scope["path"][:80], error.headers or {}
    told = f"{error.detail}."
    if error.status_code == 404:
        told = f"There is no {path} here; there are {', '.join(PATHS)}."
    elif error.status_code == 405:
        told = f"{path} takes no {request.method}; send {headers.get('Allow', 'another method')}."
    return answer(told, error.status_code, headers=headers)


async def _unforeseen(_: Request, error: Exception) -> Response:
    return answer(UNFORESEEN, 500, code="internal")
