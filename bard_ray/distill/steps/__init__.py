"""Steps of the data pipeline: one plug-in a file."""
