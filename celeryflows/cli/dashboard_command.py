"""`flows dashboard`: the pages, on their own."""

import gc
import logging
from typing import Any

import click

from celeryflows.cli.opening import Refused, WrongUsage, app_of
from celeryflows.cli.output import console_for

PORT = 8288
THREADS = 8
MISSING = "The dashboard needs Flask and more: pip install 'celeryflows[dashboard]'"


@click.command("dashboard")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(1, 65535), help="The port.")
@click.option("--threads", default=THREADS, show_default=True, type=click.IntRange(1, 64), help="Requests at once.")
@click.pass_context
def serve_dashboard(ctx: click.Context, *, host: str, port: int, threads: int) -> None:
    """Runs, events, flows, failures and figures in a browser. Ctrl-C ends it."""
    flows = app_of(ctx).flows
    server = server_for(flows, host, port, threads)
    console_for(ctx).print(f"the dashboard is at {address(host, port)}", soft_wrap=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
        flows.runtime.store.dispose()


def server_for(flows: Any, host: str, port: int, threads: int = THREADS) -> Any:
    """A server of the dashboard that listens already. Raises Refused when it cannot."""
    try:
        from waitress import create_server

        from flask_dashboard import create_app
    except ImportError as error:
        raise WrongUsage(MISSING) from error
    app = create_app(flows)
    # A full collection would walk through all that the libraries brought along, in the middle of an answer.
    gc.collect()
    gc.freeze()
    # A browser asks for a page's files at once: that some of them wait a moment is no news.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        return create_server(
            app,
            host=host,
            port=port,
            # What we are bound to decides who needs a login.
            server_name=host,
            threads=threads,
            ident=None,
            clear_untrusted_proxy_headers=False,
        )
    except OSError as error:
        raise Refused(f"Nothing can listen at {host}:{port}: {error.strerror}. Choose another: --port") from error


def address(host: str, port: int) -> str:
    """Where a browser finds it."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
