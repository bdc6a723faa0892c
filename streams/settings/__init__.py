"""The configuration: three kinds (deployment, network, city), read from TOML and the environment, checked all at once."""

from streams.settings.deployment import Deployment
from streams.settings.loading import load, load_bridge, loads
from streams.settings.values import ControlSettings, FeedSettings, Settings, Topics
from streams.settings.webhook import BridgeSettings, Webhook

__all__ = [
    "BridgeSettings", "ControlSettings", "Deployment", "FeedSettings", "Settings", "Topics", "Webhook", "load", "load_bridge",
    "loads",
]  # fmt: skip
