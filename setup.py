"""Everything is read from settings.ini, which nbdev shares."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ini = ConfigParser(delimiters=["="], interpolation=None)
ini.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

extras = {
    name: cfg[f"{name}_requirements"].split()
    for name in ("lens", "hub", "notebook", "judge", "benchmark", "cluster", "docs", "dev")
}
extras["dev"] += [
    package for name in ("lens", "hub", "notebook", "judge", "benchmark", "cluster", "docs") for package in extras[name]
]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=cfg["git_url"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["saematch", "saematch.*"]),
    include_package_data=True,
    package_data={"saematch": ["*.html.j2", "*.css", "*.js", "*.json", "suites/*/*", "suites/*/*/*", "text/*"]},
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    python_requires=">=" + cfg["min_python"],
    entry_points={"console_scripts": cfg["console_scripts"].split(), "nbdev": ["saematch=saematch._modidx:d"]},
    zip_safe=False,
)
