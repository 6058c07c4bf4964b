"""Ray adapters of the four roles: placement, engines, weight transport, clients, the driver.

No math in here.
"""
