"""The journal of one turn: what is remembered is given back, what is fresh is run and recorded under the fence."""

from celeryflows.engine.tools.group import GroupTool
from celeryflows.engine.tools.invoke import InvokeTool
from celeryflows.engine.tools.send import SendTool
from celeryflows.engine.tools.signal import SignalTool
from celeryflows.engine.tools.sleep import SleepTool
from celeryflows.engine.tools.successor import SuccessorTool
from celeryflows.engine.tools.task import TaskTool
from celeryflows.engine.tools.transaction import TransactionTool
from celeryflows.engine.tools.wait import WaitTool


class TurnJournal(
    TransactionTool, SleepTool, WaitTool, SendTool, InvokeTool, SignalTool, TaskTool, SuccessorTool, GroupTool
):
    """All step tools over one turn of one run: the Journal of celeryflows.steps."""
