"""Ray adapters of the four roles: placement, engines, weight transport, clients, the driver.

This package contains no math.
"""
