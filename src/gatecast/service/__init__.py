"""The service: a store's book, forecasts, models and health as JSON and as pages, read and never written.

`gatecast serve STORE` starts it; `app.make_app` makes the application, for a server of one's own. It needs
`pip install 'gatecast[serve]'`.
"""
