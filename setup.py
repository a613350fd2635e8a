"""The packages and data files of the distribution; everything else is in pyproject.toml.

`configs/` travels inside the wheel as `multimodal/_configs`, so that `openherd fit --config NAME`
works from an installed package, without being a package that anybody can import by accident.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["language*", "vision*", "speech*", "video*", "multimodal*"]),
        "multimodal._configs",
    ],
    package_dir={"multimodal._configs": "configs"},
    package_data={
        "multimodal": ["_tiny/**/*"],
        "multimodal._configs": ["**/*.yaml"],
    },
)
