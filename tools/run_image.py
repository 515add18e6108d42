"""Builds and runs the Dockerfile without a container engine, this machine's own system standing in for its bases.

    unshare --mount --propagation private python tools/run_image.py DOCKERFILE WORK -- COMMAND...

Needs root on Linux, and a mount namespace of its own, with which everything mounted here disappears. Each stage is an
overlay over `/`: its RUN instructions run chrooted into it, its COPY instructions see what .dockerignore lets through.
The image then runs as a careful engine would run it: root file system read-only, no capabilities, the user it names,
its volume on a disk of its own. When its health check succeeds, COMMAND runs; then the stop signal must end it with
exit code 0.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.dockerfile import (  # noqa: E402
    Instruction,
    Stage,
    assignments,
    context_files,
    expand,
    parse,
)

HEALTHY_DEADLINE_S = 60
STOP_DEADLINE_S = 30
CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
COMMIT = "0123456789ab"
# Where to find registries is the machine's business, as are a proxy's certificates.
HANDED_ON = ("PIP_", "UV_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class Image:
    """One stage that is being built: a chroot, and what its instructions set.

    Attributes:
        root: the root of its file system.
        environment: of its commands.
        folder: in which they run.
        user: `uid:gid` of its final process.
    """

    def __init__(self, stage: Stage, work: Path) -> None:
        self.stage = stage
        self.root = work / (stage.name or "final")
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        self.folder = "/"
        self.user = "0:0"
        self._mount(work / f"{self.root.name}.layers")

    def _mount(self, layers: Path) -> None:
        for folder in (self.root, layers / "upper", layers / "work"):
            folder.mkdir(parents=True)
        options = f"lowerdir=/,upperdir={layers / 'upper'},workdir={layers / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
        run("mount", "-t", "proc", "proc", str(self.root / "proc"))
        run("mount", "--rbind", "/dev", str(self.root / "dev"))
        run("mount", "-t", "tmpfs", "tmpfs", str(self.root / "tmp"))
        # The bases have Python in /usr/local, and that is where this interpreter appears.
        if sys.base_prefix != "/usr":
            local = str(self.root / "usr/local")
            run("mount", "--bind", sys.base_prefix, local)
            run("mount", "-o", "remount,bind,ro", local)
            # It may look for its library where it was installed, which may be in the home of root.
            for folder in Path(sys.base_prefix).parents:
                home = self.root / folder.relative_to("/")
                home.chmod(home.stat().st_mode | 0o011)

    def build(self, arguments: dict[str, str], others: dict[str, "Image"]) -> None:
        """Carries out every instruction of the stage."""
        values: dict[str, str] = {}
        for each in self.stage.instructions:
            if each.keyword == "ARG":
                values |= {
                    name: arguments.get(name, value)
                    for name, value in assignments(each.value).items()
                }
            elif each.keyword == "ENV":
                self.environment |= assignments(each.value)
            elif each.keyword == "USER":
                self.user = each.value
            elif each.keyword == "WORKDIR":
                self.folder = each.value
                (self.root / each.value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif each.keyword == "RUN":
                self._run(expand(each.value, values))
            elif each.keyword == "COPY":
                self._copy(each, others)
            else:
                assert each.keyword in {
                    "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "STOPSIGNAL", "VOLUME",
                }, each  # fmt: skip

    def _run(self, script: str) -> None:
        handed_on = {
            name: value for name, value in os.environ.items() if name.upper().startswith(HANDED_ON)
        }
        subprocess.run(
            self.command(["/bin/sh", "-c", script], "0:0"),
            check=True,
            env=self.environment | handed_on,
        )

    def _copy(self, each: Instruction, others: dict[str, "Image"]) -> None:
        words = each.value.split()
        origin = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        *sources, target = words
        destination = self.root / os.path.normpath(f"{self.folder}/{target}").lstrip("/")
        for source in sources:
            if origin:
                shutil.copytree(
                    others[origin].root / source.lstrip("/"), destination, symlinks=True
                )
                continue
            named = [
                file
                for file in context_files(ROOT, ROOT / ".dockerignore")
                if file.is_relative_to(source)
            ]
            assert named, f"{source} is not in the context"
            for file in named:
                below = file.relative_to(source) if (ROOT / source).is_dir() else file.name
                (destination / below).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, destination / below)

    def command(self, words: list[str], user: str) -> list[str]:
        """Returns a command line that runs in the image; nobody but root keeps a right."""
        uid, _, gid = user.partition(":")
        drop = [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            "--no-new-privs",
            "--inh-caps=-all",
        ]
        script = f'cd "{self.folder}" && exec "$@"'
        prefix = [] if uid == "0" else [*drop, "--bounding-set=-all"]
        return [CHROOT, str(self.root), *prefix, "/bin/sh", "-c", script, "sh", *words]

    def seal(self, volume: Path) -> None:
        """Mounts the volume with what the image holds there, and makes the rest read-only."""
        (path,) = self.stage.last("VOLUME").words()
        inside = self.root / path.lstrip("/")
        shutil.copytree(inside, volume)
        owner = inside.stat()
        os.chown(volume, owner.st_uid, owner.st_gid)
        run("mount", "--bind", str(volume), str(inside))
        run("mount", "-o", "remount,ro", str(self.root))

    def start(self, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts what the image is for."""
        words = self.stage.last("ENTRYPOINT").words() + self.stage.last("CMD").words()
        return subprocess.Popen(self.command(words, self.user), env=self.environment | variables)

    def is_healthy(self, variables: dict[str, str]) -> bool:
        """Runs the health check once."""
        check = Instruction(
            "CMD", self.stage.last("HEALTHCHECK").value.partition(" CMD ")[2]
        ).words()
        ended = subprocess.run(
            self.command(check, self.user),
            env=self.environment | variables,
            check=False,
            stderr=subprocess.DEVNULL,
        )
        return ended.returncode == 0


def run(*words: str) -> None:
    """Runs a program that must succeed."""
    subprocess.run(words, check=True)


def serve_and_try(image: Image, variables: dict[str, str], command: list[str]) -> None:
    """Starts the image, waits for its health, tries it, stops it."""
    server = image.start(variables)
    try:
        deadline = time.monotonic() + HEALTHY_DEADLINE_S
        while not image.is_healthy(variables):
            assert server.poll() is None, f"the server ended with exit code {server.returncode}"
            assert time.monotonic() < deadline, "the image does not become healthy"
        print("healthy", flush=True)
        subprocess.run(command, check=True)
    finally:
        server.send_signal(getattr(signal, image.stage.last("STOPSIGNAL").value))
        code = server.wait(timeout=STOP_DEADLINE_S)
    assert code == 0, f"stopped with exit code {code}"
    assert not image.is_healthy(variables)
    print("stopped with exit code 0")


def main() -> None:
    """Builds every stage in order, then runs the last one."""
    dockerfile, work = Path(sys.argv[1]), Path(sys.argv[2])
    command = sys.argv[sys.argv.index("--") + 1 :]
    # Layers may not lie on the file system that they cover.
    run("mount", "-t", "tmpfs", "tmpfs", str(work))
    _, stages = parse(dockerfile.read_text(encoding="utf-8"))
    images: dict[str, Image] = {}
    for stage in stages:
        image = Image(stage, work)
        image.build({"WHIMBREL_COMMIT": COMMIT}, images)
        images[stage.name] = image
    image.seal(work / "volume")
    subprocess.run(
        image.command(["whimbrel", "--version"], image.user), env=image.environment, check=True
    )
    variables = {name: value for name, value in os.environ.items() if name.startswith("WHIMBREL_")}
    serve_and_try(image, variables, command)


if __name__ == "__main__":
    main()
