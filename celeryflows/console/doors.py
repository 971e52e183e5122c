"""The doors' settings and rules, for those who stand at them."""

from celeryflows.settings.doors import ACT as ACT
from celeryflows.settings.doors import LOOK as LOOK
from celeryflows.settings.doors import DoorSettings as DoorSettings
from celeryflows.settings.doors import ProxyLogin as ProxyLogin
from celeryflows.settings.doors import User as User
from celeryflows.settings.hooks import Hook as Hook
