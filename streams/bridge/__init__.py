"""The webhook bridge: every event of a topic of alerts as one signed POST, at least once, in order within its episode."""
