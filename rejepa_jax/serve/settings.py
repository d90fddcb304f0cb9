"""How much a server lets in, how long it waits, and who may ask."""

import dataclasses
import ipaddress
import pathlib

from rejepa_jax.types import ConfigError

MAX_K = 1000  # hits of one answer
MAX_EXAMPLES = 100  # ids in a query, of either sign
MAX_DOWNLOAD = 10_000  # ids in one download
MAX_ITEMS = 20_000  # points of the map in one answer
MIN_TOKEN = 16  # characters


@dataclasses.dataclass(frozen=True)
class Settings:
    """Limits of one server; times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: str = ""  # "" = none is asked for, which only loopback allows
    max_body: int = 32 * 2**20
    max_pixels: int = 2**24  # height times width of an upload
    max_patches: int = 64  # that an upload is cut into with the mode grid
    max_uploads: int = 8  # images in one query
    max_requests: int = 64  # answered at a time; the next ones are told to come again
    decoders: int = 2  # uploads decoded at a time
    body_timeout: float = 30.0
    decode_timeout: float = 10.0
    answer_timeout: float = 60.0
    drain_notice: float = 1.0  # from "not ready" to taking no more requests
    drain_timeout: float = 20.0
    poll: float = 1.0  # between looks for a new version of the index

    def __post_init__(self) -> None:
        """Refuses limits that let nothing in, and a server that anyone could ask.

        Raises:
            ConfigError: such a setting.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and field.name != "port" and value <= 0:
                raise ConfigError(f"got {field.name} = {value}, expected more than 0; leave it out")
        if not self.token and not self.is_loopback:
            raise ConfigError(
                f"got host {self.host!r} without a token, expected one wherever other machines "
                "can ask; give --token_file FILE or set REJEPA_TOKEN, or use 127.0.0.1"
            )
        if self.token and (len(self.token) < MIN_TOKEN or not self.token.isascii()):
            raise ConfigError(
                f"got a token of {len(self.token)} characters, expected {MIN_TOKEN} or more, all "
                "ASCII; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, of whatever address
            return False


def read_token(path: pathlib.Path | None, variable: str) -> str:
    """Reads the token from a file, or else takes an environment variable's value ("" = none).

    Raises:
        ConfigError: the file cannot be read or is empty.
    """
    if path is None:
        return variable.strip()
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token_file {path}: {error}; write one line of ASCII there") from error
    if not token:
        raise ConfigError(f"--token_file {path}: got an empty file, expected a token on one line")
    return token
