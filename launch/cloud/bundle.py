"""The folder that goes to every host: the same program, settings and command for all of them.

    build/launch/PROJECT.ZONE.BACKEND.NAME/      host.sh, wheel, constraints.txt, configs/, run.sh
    build/launch/PROJECT.ZONE.BACKEND.NAME.tar   the same

On a host it is /opt/rejepa-NAME, and root's: whoever logs in finds the same run there.

It is made by plain commands in the repository's root, so that a dry run shows all of it. What an
operator gives as arguments or environment stands in run.sh and nowhere else: no remote shell ever
takes it apart.
"""

import hashlib
import pathlib
import shlex

from cloud.commands import LaunchError, Shell
from cloud.job import Job

HOST_SCRIPT = "launch/cloud/host.sh"


class Bundle:
    """Makes and packs the folder; paths are relative to the repository's root."""

    def __init__(self, job: Job, shell: Shell):
        self._job, self._shell = job, shell
        project = job.project.replace(":", "-")  # scp takes a colon for the end of a host's name
        self.folder = f"build/launch/{project}.{job.zone}.{job.backend}.{job.name}"
        self.tar = f"{self.folder}.tar"
        self.sent = f"rejepa-{job.name}.tar"  # in the home folder of whoever logs in
        self._remote = f"/opt/rejepa-{job.name}"

    def make(self) -> None:
        """Puts the wheel and what it needs into a new folder."""
        run = self._shell.run
        run(["rm", "-rf", self.folder, "build/lib"])  # where setuptools keeps modules of old
        run(["mkdir", "-p", self.folder])
        run(["cp", HOST_SCRIPT, "constraints.txt", self.folder])
        if self._job.wheel:
            run(["cp", self._job.wheel, self.folder])
        else:
            wheel = ["python3", "-m", "pip", "wheel", "--quiet", "--no-deps"]
            run([*wheel, "--wheel-dir", self.folder, "."])

    def exists(self) -> bool:
        """Whether a wheel is there already, so that a run that is resumed keeps its program."""
        return any((pathlib.Path(self.folder)).glob("*.whl"))

    def pack(self) -> None:
        """Adds the config and the command, which may have changed, and packs the folder."""
        if not self._shell.dry_run and not self.exists():
            raise LaunchError(f"{self.folder}: no wheel there; give the verb setup first", 2)
        file = self._job.config.partition(":")[0]
        self._shell.run(["rm", "-rf", f"{self.folder}/configs"])
        self._shell.run(["mkdir", f"{self.folder}/configs"])
        self._shell.run(["cp", file, f"{self.folder}/configs"])
        self._shell.run(["tee", f"{self.folder}/run.sh"], stdin=self._script())
        self._shell.run(["tar", "--create", "--file", self.tar, "--directory", self.folder, "."])

    def _script(self) -> str:
        # No silent training on processors where the chips do not answer.
        env = {"JAX_PLATFORMS": "tpu,cpu"} | self._job.env
        exports = [f"export {key}={shlex.quote(value)}" for key, value in env.items()]
        file, _, preset = self._job.config.partition(":")
        config = f"configs/{pathlib.PurePath(file).name}" + (f":{preset}" if preset else "")
        words = ["-m", *self._job.command[2:]]
        words[words.index("--config") + 1] = config
        return "\n".join([*exports, f'exec "$PYTHON" {shlex.join(words)}']) + "\n"

    def digest(self) -> str:
        """Returns what every host must say its bundle is, as host.sh works it out."""
        folder = pathlib.Path(self.folder)
        found = hashlib.sha256()
        for pattern in ("host.sh", "constraints.txt", "*.whl", "configs/*.*", "run.sh"):
            for file in sorted(folder.glob(pattern)):
                found.update(file.read_bytes())
        return found.hexdigest()[:12]

    def task(self) -> str:
        """Returns what host.sh says that it runs: config and command, of whatever wheel."""
        config = pathlib.Path(self._job.config.partition(":")[0]).read_bytes()
        return hashlib.sha256(config + self._script().encode()).hexdigest()[:12]

    def unpack(self, then: str) -> str:
        """Returns the line for a host's shell that unpacks the bundle and gives host.sh a verb."""
        folder = self._remote
        steps = [
            f"sudo -n mkdir -p {folder}",
            f"sudo -n rm -rf {folder}/configs {folder}/*.whl",
            f"sudo -n tar --no-same-owner -xf {self.sent} -C {folder}",
            self.line(then),
        ]
        return " && ".join(steps)

    def line(self, verb: str) -> str:
        """Returns the line for a host's shell that gives host.sh a verb."""
        return f"sudo -n bash {self._remote}/host.sh {verb}"

    def state_line(self) -> str:
        """Returns the line that asks for the state; only where no host.sh is, nothing was run."""
        idle = 'echo "rejepa $(hostname) idle"'
        return f"if [ -e {self._remote}/host.sh ]; then {self.line('state')}; else {idle}; fi"
