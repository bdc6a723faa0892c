"""The configuration: three kinds (deployment, network, city), read from TOML and the environment, checked all at once."""

from streams.settings.deployment import Deployment
from streams.settings.loading import load, loads
from streams.settings.values import FeedSettings, Settings, Topics

__all__ = ["Deployment", "FeedSettings", "Settings", "Topics", "load", "loads"]
