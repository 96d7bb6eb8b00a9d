"""Maps the role folders into the package; everything else stands in pyproject.toml.

`fedward/server` and its siblings are links for type checkers and import contracts. The build goes past them,
because ZIP files and Windows checkouts hold small text files in their place.
"""

from setuptools import find_namespace_packages, setup

ROLES = ("server", "client", "strategies", "privacy", "simulations")


def packages_in(folder: str, name: str, *without: str) -> list[str]:
    """The package ``name`` that lies in ``folder``, and all below it."""
    below = find_namespace_packages(folder, exclude=["*__pycache__", *without])
    return [name, *(f"{name}.{each}" for each in below)]


setup(
    packages=[
        *packages_in("fedward", "fedward", *ROLES, *(f"{role}.*" for role in ROLES)),
        *(package for role in ROLES for package in packages_in(role, f"fedward.{role}")),
    ],
    package_dir={f"fedward.{role}": role for role in ROLES},
)
