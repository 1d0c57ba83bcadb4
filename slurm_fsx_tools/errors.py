"""Every error that a user or an admin can meet."""

from __future__ import annotations


class SlurmFsxError(Exception):
    """Something went wrong that its reader can mend.

    Args:
        message: What happened, with the value, file or line that it happened to.
        hint: What to do next, as a sentence without a full stop; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def in_words(error: BaseException) -> str:
    """Say what an error says, with its kind where it is none of ours: ``'name'`` alone says nothing."""
    return str(error) if isinstance(error, SlurmFsxError) else f"{type(error).__name__}: {error}"


class ConfigError(SlurmFsxError):
    """A configuration that cannot be used."""

    exit_code = 2


class UntrustedFile(SlurmFsxError):
    """A file that root must not believe, because somebody else could have written it."""


class InvalidName(SlurmFsxError):
    """A container's or image's name that nothing could be called by."""

    exit_code = 2


class InvalidImageName(InvalidName):
    """An image name that no registry would accept."""


class ImageNotFound(SlurmFsxError):
    """No image, or more than one, answers to a name."""


class InvalidEnvironment(SlurmFsxError):
    """An operation on a job's environment that cannot be written down."""


class DeadlineExceeded(SlurmFsxError):
    """Something took longer than it may."""


class SharedFsUnavailable(SlurmFsxError):
    """The shared file system is missing, or does not answer."""


class RegistryError(SlurmFsxError):
    """A registry that did not give an image."""


class RegistryDenied(RegistryError):
    """A registry that wants other credentials, or none of us."""


class ImageNotInRegistry(RegistryError):
    """A repository, tag or architecture that the registry does not have."""


class RegistryUntrustworthy(RegistryError):
    """A registry whose content is not what its digest says."""


class RegistryUnavailable(RegistryError):
    """A registry that does not answer, or with an error of its own; it may do better later.

    Args:
        retry_after_s: When it wants to be asked again, in seconds from now; None where it did not say.
    """

    def __init__(self, message: str, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class RegistryBusy(RegistryUnavailable):
    """A registry that was asked too often (429)."""


class ImportFailed(SlurmFsxError):
    """Something fetched or built here, an image say, that was not made, or not made well."""


class NoSpace(ImportFailed):
    """A file system that has too little room for what is being made."""


class InvalidVersion(InvalidName):
    """A version, source or architecture that nothing of NCCL could be called by."""


class InstallFailed(SlurmFsxError):
    """An NCCL version that was not installed."""


class VersionNotUsable(SlurmFsxError):
    """An NCCL version that is missing, broken or in use, so that it cannot be what was asked for."""


class Interrupted(SlurmFsxError):
    """Work that was ended by a signal."""

    exit_code = 130


class SlurmUnavailable(SlurmFsxError):
    """Slurm does not say what was asked of it."""


class ImageInUse(SlurmFsxError):
    """An image that must not be removed now."""


class LockTimeout(SlurmFsxError):
    """Somebody held a lock for longer than this process may wait."""


class LockLost(SlurmFsxError):
    """Another process has, or may have, taken a lock over from this one."""


class NotHere(SlurmFsxError):
    """A step of set-up that this machine has no use for, or no means: no systemd runs, say."""


class StepFailed(SlurmFsxError):
    """A step of set-up that did not do what it should."""
