"""Puts the parts together: the only module that knows every concrete class."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp

from bot.aws import Aws, AwsSettings
from bot.config import Settings
from bot.durable import Engine
from bot.errors import ConfigError, RefineError
from bot.flows import Desk, World, drive, homes, post, propose, watch
from bot.messages.slack import Slack, web_client
from bot.model import CaseId
from bot.policy import load_catalogue
from bot.store import Store
from bot.store.replicas import Replicas, replicas
from handlers import Jobs, register, warm_up

log = structlog.get_logger()

ROUNDS = Counter("refine_rounds_total", "Rounds of the bot's clocks, by name and outcome", ["name", "outcome"])
CASES = Gauge("refine_cases", "Cases by state", ["state"])
WAITING = Gauge("refine_changes_waiting", "Changes that wait for AWS, Slack, the database or people")
LEADING = Gauge("refine_leading", "1 where this process does the work, 0 where it waits for its turn")
LAST_WATCH = Gauge("refine_last_watch_timestamp_seconds", "When Access Analyzer was last read to the end")


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    return uuid.uuid4().hex[:12]


def monotonic() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def set_up_logging(settings: Settings) -> None:
    """Log one JSON object a line (or text for a terminal); libraries' own records come out the same way."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Any = (
        structlog.processors.JSONRenderer()
        if settings.refine_log == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.refine_log_level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.refine_log_level)
    for noisy in ("botocore", "aiobotocore", "slack_sdk", "slack_bolt", "alembic", "aiohttp.access", "asyncio"):
        # Their DEBUG and INFO records hold request bodies and headers: secrets stay out of the log.
        logging.getLogger(noisy).setLevel(logging.WARNING)


@dataclass(slots=True, kw_only=True)
class Bot:
    """The running bot, as `assemble` yields it."""

    settings: Settings
    world: World
    store: Store
    slack: Slack
    app: AsyncApp
    jobs: Jobs
    engine: Engine
    replicas: Replicas
    ready: bool = False


@asynccontextmanager
async def assemble(settings: Settings) -> AsyncIterator[Bot]:
    """Open everything that the bot needs, and close it again in the reverse order."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            Store.open(
                settings.database_url(),
                audit_key=settings.audit_key(),
                clock=now,
                new_id=new_id,
            )
        )
        if not await store.key_fits():
            raise ConfigError(
                "The audit log in the database was written with another audit key.",
                "Set REFINE_AUDIT_KEY to the key of old, or bring back audit.key in REFINE_DATA_DIR; all replicas need "
                "the same.",
            )
        several = replicas(settings.database_url(), store, monotonic=monotonic, new_id=new_id)
        aws = await stack.enter_async_context(Aws(aws_settings(settings)))
        client = await stack.enter_async_context(
            web_client(settings.slack_bot_token.get_secret_value(), base_url=settings.slack_api_url)
        )
        slack = Slack(client, clock=now, sleep=asyncio.sleep, spacing=settings.refine_post_seconds)
        engine = Engine(lambda name, key: store.tell(f"{name}/{key}")) if store.shared else Engine()
        world = World(
            store=store,
            aws=aws,
            slack=slack,
            engine=engine,
            settings=settings,
            catalogue=await asyncio.to_thread(load_catalogue),
            clock=now,
            new_id=new_id,
            sleep=asyncio.sleep,
            sure=several.sure,
            own_roles=await _own_roles(aws),
            workspace=await slack.team_id(),
        )
        engine.register("work", lambda key: propose.work(world, CaseId(key)))
        engine.register("drive", lambda key: drive.drive(world, CaseId(key)))
        jobs = Jobs()
        secret = settings.slack_signing_secret
        bolt_log = logging.getLogger("slack_bolt")
        # Bolt reads SLACK_BOT_TOKEN too, and warns that the client's token is taken: it is the same one.
        bolt_log.addFilter(lambda record: "`token` will be unused" not in record.getMessage())
        app = AsyncApp(
            client=client,
            logger=bolt_log,
            signing_secret=secret.get_secret_value() if secret else None,
            request_verification_enabled=secret is not None,
        )
        register(app, Desk(world), jobs, slack)
        await warm_up(app)
        yield Bot(
            settings=settings,
            world=world,
            store=store,
            slack=slack,
            app=app,
            jobs=jobs,
            engine=engine,
            replicas=several,
        )


def aws_settings(settings: Settings) -> AwsSettings:
    external = settings.refine_external_id
    return AwsSettings(
        analyzers=settings.refine_analyzers,
        regions=settings.refine_regions,
        member_role_name=settings.refine_member_role,
        external_id=external.get_secret_value() if external else "",
        report_timeout_seconds=settings.refine_report_timeout_seconds,
        clock=now,
        sleep=asyncio.sleep,
    )


async def _own_roles(aws: Aws) -> tuple[str, ...]:
    """Return the ARN of the role that the bot runs as: it must never touch it."""
    try:
        account, arn = await aws.whoami()
    except RefineError as error:
        log.warning("own role unknown", why=error.sentence)
        return ()
    if ":assumed-role/" in arn:
        partition, name = arn.split(":")[1], arn.split(":assumed-role/")[1].split("/")[0]
        return (f"arn:{partition}:iam::{account}:role/{name}",)
    return (arn,)


async def run(settings: Settings) -> None:
    """Run the bot until SIGTERM or SIGINT, then finish what is under way and leave."""
    set_up_logging(settings)
    # A thread at work (the engine, a picture) keeps the interpreter for this long at each of the hundred hand-overs to
    # the database that a click takes; with Python's 5 ms, a click takes three times as long.
    sys.setswitchinterval(0.0002)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    async with assemble(settings) as bot, AsyncExitStack() as stack:
        runner = await _serve(bot)
        stack.push_async_callback(runner.cleanup)  # harmless twice: it has to end before the jobs do, see below
        leave = asyncio.Event()
        work = [
            asyncio.create_task(
                bot.replicas.run(lambda ended: _work(bot, ended), stop=leave, hear=lambda what: _hear(bot, what))
            ),
            asyncio.create_task(homes.keep(bot.world, stop=leave)),
        ]
        sockets = await _connect(bot)
        bot.ready = True
        log.info("ready", port=settings.refine_port, way="socket mode" if sockets else "http")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, *work}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping")
        bot.ready = False
        for socket in sockets:
            await socket.close_async()  # type: ignore[no-untyped-call]
        await runner.cleanup()  # no click is taken any more: those taken are finished
        bot.world.poke()
        await bot.jobs.drain(timeout=20)
        leave.set()
        await asyncio.gather(*work)


async def _work(bot: Bot, ended: asyncio.Event) -> None:
    """Do what one process does for all, until `ended` is set: run flows, keep clocks, send what is to be said."""
    LEADING.set(1)
    await bot.engine.start()
    tasks = [
        asyncio.create_task(_every(bot.settings.refine_poll_seconds, "watch", lambda: _watch(bot), ended)),
        asyncio.create_task(_every(15, "tick", lambda: watch.tick(bot.world), ended)),
        asyncio.create_task(_every(3600, "weekly", lambda: watch.weekly(bot.world), ended)),
        asyncio.create_task(post.pump(bot.world, stop=ended)),
    ]
    try:
        await ended.wait()
        await asyncio.wait(tasks, timeout=20)
        await bot.engine.stop()
    finally:
        # Cut off where another process may be at it already: nothing may go on here.
        LEADING.set(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bot.engine.stop(patience=0)


async def _hear(bot: Bot, what: str) -> None:
    """Note what another process wrote: there is something to send, a card was drawn, or a flow is to be run."""
    name, _, key = what.partition("/")
    if key and bot.replicas.leading:
        with suppress(LookupError):  # of a newer version
            await bot.engine.submit(name, key)
    elif what == "card":
        bot.world.moved.set()
    else:
        bot.world.poke()


async def _watch(bot: Bot) -> None:
    await watch.watch(bot.world)
    LAST_WATCH.set_to_current_time()
    WAITING.set(len(bot.world.waits))
    counts = await bot.store.counts()
    for state, number in counts.items():
        CASES.labels(state=str(state)).set(number)


async def _every(seconds: float, name: str, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await work()
            ROUNDS.labels(name=name, outcome="ok").inc()
        except RefineError as error:
            ROUNDS.labels(name=name, outcome="error").inc()
            log.warning("round failed", name=name, why=error.say())
        except Exception:
            ROUNDS.labels(name=name, outcome="crash").inc()
            log.exception("round crashed", name=name)
        # A little jitter, so that replicas do not ask AWS in step.
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds * random.uniform(0.95, 1.05))  # noqa: S311


async def _connect(bot: Bot) -> list[AsyncSocketModeHandler]:
    """Open two Socket Mode connections: while Slack refreshes one, the other takes the clicks."""
    token = bot.settings.slack_app_token
    if token is None:
        return []
    sockets = []
    for _ in range(2):
        socket = AsyncSocketModeHandler(bot.app, token.get_secret_value())
        await socket.connect_async()  # type: ignore[no-untyped-call]
        sockets.append(socket)
    return sockets


async def _serve(bot: Bot) -> web.AppRunner:
    """Serve health, metrics and, for signed HTTP, Slack's requests on one port."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def readyz(_: web.Request) -> web.Response:
        try:
            await bot.store.ping()
        except RefineError as error:
            return web.json_response({"ok": False, "why": error.sentence}, status=503)
        return web.json_response({"ok": bot.ready}, status=200 if bot.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    if bot.settings.slack_app_token is None:
        from handlers.http import signed_requests

        signed_requests(app, bot.app, clock=now)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=bot.settings.refine_port).start()
    return runner


__all__ = ["assemble", "run"]
