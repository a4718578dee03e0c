"""The control plane's door: desks, the driver, the views and the watch, put together."""
