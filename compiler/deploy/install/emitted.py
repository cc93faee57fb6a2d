"""Make what is installed anew from a bundle's plan: of its other files nothing is believed.

A list of digests proves no more than that whoever wrote it knew the files. What a plan becomes, the
running dync knows by itself: that is what is put in place, and a bundle that holds anything else is
refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler import __version__
from compiler.deploy.install.generations import ReadBundle
from compiler.emit.artifact import Artifact
from compiler.emit.bundle import emit
from compiler.errors import HostError
from compiler.library import templates
from compiler.write.manifest import first_of


def emitted(source: ReadBundle, *, overwrite: bool) -> tuple[Artifact, ...]:
    """Return what this dync makes of a bundle's plan.

    overwrite: also where the bundle holds something else, which is left out then.
    Errors: HostError, with the files that differ.
    """
    artifacts = emit(source.plan, templates())
    differing = {*_differing(source, artifacts), *source.changed}
    if not differing or overwrite:
        return artifacts
    paths, again = first_of(differing), "make it again with dync build"
    if source.changed:
        raise HostError(
            f"{source.folder} was changed since dync wrote it ({paths}): {again}, or give "
            "--overwrite to install what dync makes of its plan.json, without the change"
        )
    if source.made_by != __version__:
        raise HostError(
            f"{source.folder} was made by {_other(source.made_by)}, and this is dync "
            f"{__version__}, which makes other files of its plan.json ({paths}): {again}"
        )
    raise HostError(
        f"{source.folder} holds what this dync does not make of its plan.json ({paths}), and its "
        f"list of files says so too; if another build of dync {__version__} made it: {again}"
    )


def _differing(source: ReadBundle, artifacts: tuple[Artifact, ...]) -> Iterator[str]:
    made = {artifact.path: artifact for artifact in artifacts}
    yield from made.keys() ^ source.files.keys()
    for path in made.keys() & source.files.keys():
        if made[path].text.encode() != source.files[path].content:
            yield path


def _other(made_by: str) -> str:
    return f"dync {made_by}" if made_by else "another version of dync"
