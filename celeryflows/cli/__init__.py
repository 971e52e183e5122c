"""`celery -A app flows ...`: the engine at a terminal. Each command parses, asks the console, and prints."""

import click

from celeryflows.cli.dev_command import develop
from celeryflows.cli.doctor_command import see_doctor
from celeryflows.cli.event_commands import list_events, send_event
from celeryflows.cli.flow_commands import list_crons, list_flows
from celeryflows.cli.opening import FlowsGroup
from celeryflows.cli.run_commands import cancel_run, list_runs, show_run
from celeryflows.cli.store_commands import store_group


@click.group(cls=FlowsGroup)
def flows() -> None:
    """Durable flows: develop, look at runs and events, send, cancel, check that all is well."""


for _command in (
    develop,
    *(send_event, list_events),
    *(list_runs, show_run, cancel_run),
    *(list_flows, list_crons),
    *(see_doctor, store_group),
):
    flows.add_command(_command)
