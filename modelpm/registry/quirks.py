"""What known registries do otherwise than the specification has it: a table, a row each.

A row holds only what its makers document or what their users have reported and others confirmed.
What can be found out by asking (the referrers API, mounts, least pieces) has no place here.
"""

import re
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Quirks:
    """How one kind of registry is written to, where that is not as the specification has it."""

    hosts: str
    """A regular expression for the whole host, with its port if it has one."""
    pieces: bool = True
    """Whether a blob may come in several PATCH requests."""
    most_at_once: int | None = None
    """Bytes of a blob that may come as the body of one PUT; larger ones come by PATCH."""
    largest: int | None = None
    """Bytes that one PATCH may have."""
    mount: bool = True
    """Whether it is worth asking for a blob of another repository."""
    catalog: bool = True
    """Whether there is a list of repositories to ask for."""
    advice: str = ""
    """What to do when a push finds no repository."""
    deletion: str = ""
    """What to do instead where neither tags nor manifests can be deleted by the API."""


STANDARD = Quirks(".*")
"""How the specification has it."""

TABLE: tuple[Quirks, ...] = (
    Quirks(
        # Amazon ECR Public. As ECR below; mounts fail too.
        # github.com/aws/containers-roadmap issues 1459 and 2831, dotnet/sdk pull request 33019
        r"public\.ecr\.aws",
        pieces=False,
        mount=False,
    ),
    Quirks(
        # Amazon ECR. The second PATCH of an upload and all after it are answered with 201, their
        # bytes dropped, and Range stays where it was. Repositories are made before a push.
        # github.com/aws/containers-roadmap issue 2831
        r"[0-9]{12}\.dkr[.-]ecr(?:-fips)?\.[a-z0-9.-]+",
        pieces=False,
        advice="create the repository first: aws ecr create-repository",
    ),
    Quirks(
        # GitHub. A PATCH above 4 MiB is answered with 416; one PUT may be of any size. Each DELETE
        # is answered with 405, by digest too.
        # github.com/oras-project/rust-oci-client issue 35, microsoft/vscode-docker 1525,
        # podman-container-tools/skopeo 1880
        r"ghcr\.io",
        largest=4 * MIB,
        catalog=False,
        deletion="delete the version of the package at github.com",
    ),
    Quirks(
        # Google. "Artifact Registry does not support Docker chunked uploads."
        # cloud.google.com/artifact-registry/docs/reference/docker-api
        r"(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev",
        pieces=False,
        advice="create the repository first: gcloud artifacts repositories create",
    ),
    Quirks(
        # Azure. One PUT above some 20 MB is answered with 413; pieces work, each with its length.
        # github.com/goharbor/harbor issue 23015
        r"[a-z0-9-]+\.azurecr\.(?:io|cn|us)",
        most_at_once=16 * MIB,
        largest=16 * MIB,
    ),
    Quirks(
        # JFrog. It is known to want PATCH, for large blobs at least.
        # github.com/containerd/containerd issue 3533
        r"[a-z0-9-]+\.jfrog\.io",
        most_at_once=0,
    ),
    Quirks(
        # Docker Hub. Nobody's token opens its catalog.
        # github.com/docker/hub-feedback issue 2094
        r"docker\.io",
        catalog=False,
    ),
    Quirks(
        # GitLab's own. Its token service gives nobody the catalog (401); GitLab has an API for it.
        # github.com/portainer/portainer issue 2956, Joxit/docker-registry-ui issue 443
        r"registry\.gitlab\.com",
        catalog=False,
    ),
)


def quirks_of(host: str) -> Quirks:
    """The row of the host, as a Reference has it; the standard where none is known."""
    return next((row for row in TABLE if re.fullmatch(row.hosts, host)), STANDARD)
