"""Feeds that are not live: recorded files, and a simulated city. All give the same records, whoever reads them."""
