"""Where the keys to a bucket of Amazon's come from, by name: so that nothing is looked for that is not there.

TensorStore hands the search to Amazon's library. That writes an error to stderr for each file below ~/.aws
that is not there, and for an instance that this machine is none of; and it asks for a profile without a name,
so that it does not find the keys in ~/.aws/credentials. So the places are looked at here, in the order that
Amazon's own tools have, and the library is told the first that has something.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path
from typing import Any, Final

from storage import errors
from storage.aliases import Json

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_TASK: Final = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_WEB_IDENTITY: Final = "AWS_WEB_IDENTITY_TOKEN_FILE"
# Of a profile: what its provider takes, and what only Amazon's whole chain does.
_IN_PROFILE: Final = ("aws_access_key_id", "role_arn")
_IN_CHAIN: Final = ("credential_process", "sso_session", "sso_start_url", "login_session")
# In place of a file that is not there.
_EMPTY: Final = "/dev/null"
_VENDOR: Final = Path("/sys/class/dmi/id/sys_vendor")
_XEN: Final = Path("/sys/hypervisor/uuid")


def chosen() -> Json:
    """TensorStore's `aws_credentials` for this process's environment, user and machine.

    Where nothing is found, requests are not signed: a public bucket is read, any other refuses.
    """
    if all(os.environ.get(name) for name in KEYS):
        return {"type": "environment"}
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    credentials = _file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config = _file("AWS_CONFIG_FILE", "config")
    if os.environ.get(_WEB_IDENTITY):
        return {"type": "default", "profile": profile}
    found = _section(credentials, profile) | _section(config, _heading(profile))
    if any(name in found for name in _IN_PROFILE):
        return {
            "type": "profile",
            "profile": profile,
            "credentials_file": str(credentials or _EMPTY),
            "config_file": str(config or _EMPTY),
        }
    if any(name in found for name in _IN_CHAIN):
        return {"type": "default", "profile": profile}
    if any(os.environ.get(name) for name in _TASK):
        return {"type": "ecs"}
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _may_be_instance():
        return {"type": "imds"}
    return {"type": "anonymous"}


def _file(variable: str, name: str) -> Path | None:
    path = Path(os.environ.get(variable) or Path.home() / ".aws" / name).expanduser()
    return path if path.is_file() else None


def _heading(profile: str) -> str:
    """Of a profile in the file of settings; that of credentials has the bare name."""
    return profile if profile == "default" else f"profile {profile}"


def _section(path: Path | None, heading: str) -> set[str]:
    """Names that are set in a section of an INI file; none where it cannot be read as one."""
    return set(_values(path, heading))


def _may_be_instance() -> bool:
    """Is this machine one of EC2's? They all say so; a machine that may not be asked is taken for one."""
    for path, right in ((_VENDOR, "amazon"), (_XEN, "ec2")):
        try:
            if path.read_text().lower().startswith(right):
                return True
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def for_writing() -> dict[str, Any]:
    """The same keys as obstore takes them: arguments of its `S3Store`.

    Raises:
        CorpusError: they come from a profile's role, process or sign-on, and boto3, which follows those, is
            not installed.
    """
    found = chosen()
    kind = found["type"]
    if kind == "anonymous":
        return {"skip_signature": True}
    profile = str(found.get("profile", "default"))
    if kind == "profile":
        values = _values(_file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), profile)
        values |= _values(_file("AWS_CONFIG_FILE", "config"), _heading(profile))
        if "aws_access_key_id" in values and "role_arn" not in values:
            names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region")
            return {name.removeprefix("aws_"): values[name] for name in names if values.get(name)}
    if kind == "profile" or (kind == "default" and not os.environ.get(_WEB_IDENTITY)):
        try:
            import boto3
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError as e:
            raise errors.CorpusError(
                f"AWS profile {profile!r} signs on by a role or a process, which takes boto3; pip install "
                "boto3, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from e
        return {"credential_provider": Boto3CredentialProvider(boto3.Session(profile_name=profile))}
    # The environment, a task, an instance, a token: the library looks there itself.
    return {}


def _values(path: Path | None, heading: str) -> dict[str, str]:
    """What is set in a section of an INI file; nothing where it cannot be read as one."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read(path or ())
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    if not parser.has_section(heading):
        return {}
    return {name: value or "" for name, value in parser[heading].items()}
