"""`celery -A app flows ...`: the engine at a terminal. Each command parses, asks the console, and prints."""

import click

from celeryflows.cli.opening import FlowsGroup

# By its room and function: Celery loads this file at each start, and only the command that is asked for is loaded.
COMMANDS = {
    "adopt": "adopt_command:adopt",
    "alerts": "alert_command:list_alerts",
    "audit": "audit_command:list_audit",
    "cancel": "cancel_command:cancel_runs",
    "check-history": "history_commands:check_history",
    "cron": "flow_commands:list_crons",
    "dashboard": "dashboard_command:serve_dashboard",
    "db": "store_commands:store_group",
    "dev": "dev_command:develop",
    "doctor": "doctor_command:see_doctor",
    "events": "event_commands:list_events",
    "export": "history_commands:export_runs",
    "hash-password": "key_commands:hash_password",
    "invoke": "invoke_command:invoke_flow",
    "keys": "key_commands:keys_group",
    "limits": "limit_command:list_limits",
    "list": "flow_commands:list_flows",
    "pause": "flow_commands:pause_flow",
    "prune": "prune_command:prune",
    "replay": "rerun_commands:replay_runs",
    "replays": "rerun_commands:list_replays",
    "rerun": "rerun_commands:rerun_run",
    "resume": "flow_commands:resume_flow",
    "rotate-keys": "store_commands:rotate_keys",
    "runs": "run_commands:list_runs",
    "send": "event_commands:send_event",
    "show": "run_commands:show_run",
    "signal": "event_commands:send_signal",
}


@click.group(cls=FlowsGroup, commands_of=COMMANDS)
def flows() -> None:
    """Durable flows: develop, look at runs and events, send, signal, cancel, run again, check that all is well."""
