"""Ray adapters of the four roles: placement, engines, weight transport, clients, the driver.

No maths in here.
"""
