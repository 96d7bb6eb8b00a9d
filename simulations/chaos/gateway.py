"""SuperLink of the chaos federation: the package's own, whose task starter forks ServerApps off.

A case takes seconds; a Python process that loads Flower would take most of them.
"""

from fedward.server import gateway

if __name__ == "__main__":
    gateway.STARTER = "fedward.simulations.chaos.starter"
    gateway.main()
