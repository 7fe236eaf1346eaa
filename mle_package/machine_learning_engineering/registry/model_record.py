"""Records of a model beside its aliases: one file each, edited by a conditional write, signed as the aliases are.

As with the aliases, a machine that has read a signed file refuses those before it.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import AliasesChanged, CorruptModel
from machine_learning_engineering.rollout.record import Rollouts
from machine_learning_engineering.rollout.retraining import Retrainings
from machine_learning_engineering.storage.store import Conflict

RecordT = TypeVar("RecordT", bound=Rollouts | Retrainings)


class ModelRecord(Generic[RecordT]):
    """Reads and changes the record of one kind, for any model. Without a file, it is that of the defaults.

    Args:
        kind: The struct; all of its fields have defaults.
        what: Names the record in messages, its file and its signature, such as ``rollouts``.
        changed: What to do when somebody else was faster, for messages.
        unreadable: What to do with a file that can't be read, for messages; ``{file}`` is its URL.
    """

    def __init__(self, kind: type[RecordT], what: str, *, changed: str, unreadable: str) -> None:
        self._kind = kind
        self._what = what
        self._changed = changed
        self._unreadable = unreadable
        self.file = f"{what}.json"
        """The name of the file, in the folder of a model."""

    def read(self, files: RegistryFiles, name: str) -> RecordT:
        """Read the record of a model.

        Raises:
            CorruptModel: The file is unreadable, its signature is refused, or it is older than one read before.
            StoreUnavailable: The store is unavailable, and the file was never read before.
        """
        stored = self._read(files, name)
        if stored.revision < files.highest_revision(self._noted(name)):
            # Once more: another process of this machine may have read a newer file since.
            stored = self._read(files, name)
        self._refuse_older(files, name, stored)
        return stored

    def change(self, files: RegistryFiles, name: str, edit: Callable[[RecordT], RecordT]) -> RecordT:
        """Replace the record of a model by what `edit` makes of it; if it raises, nothing changes.

        Raises:
            AliasesChanged: Somebody else has changed it in the meantime: read it and decide again.
            CorruptModel: The file is unreadable.
            StoreUnavailable: The store is unavailable.
        """
        with files.store.edit(self._key(name)) as file:
            before = self._verified(files, name, file.content)
            self._refuse_older(files, name, before)
            after = edit(before)
            if after == before:
                return before
            after = self._with_revision(after, before.revision + 1)
            try:
                file.replace(self._document(files, name, after))
            except Conflict as error:
                raise AliasesChanged(self._changed.format(name=name)) from error
        return after

    def sign(self, files: RegistryFiles, unsigned: RegistryFiles, name: str) -> bool:
        """Write the record of a model anew, signed with the first key, whatever its signature is now.

        Args:
            files: Of the registry, with keys.
            unsigned: Of the same, without.
            name: Of the model.

        Returns:
            Whether there is one, or was: a file that is gone is replaced by an empty one.

        Raises:
            CorruptModel: It is unreadable.
            Conflict: Somebody else writes it.
        """
        with files.store.edit(self._key(name)) as file:
            newest = files.highest_revision(self._noted(name))
            if file.content is None and not newest:
                return False
            stored = self._verified(unsigned, name, file.content)
            file.replace(self._document(files, name, self._with_revision(stored, max(stored.revision, newest) + 1)))
        return True

    @staticmethod
    def _with_revision(record: RecordT, revision: int) -> RecordT:
        return msgspec.structs.replace(record, revision=revision, signature="")

    def _document(self, files: RegistryFiles, name: str, record: RecordT) -> bytes:
        return files.sign(msgspec.json.format(msgspec.json.encode(record), indent=2), self._subject(name))

    def _read(self, files: RegistryFiles, name: str) -> RecordT:
        try:
            return self._decode(files, name, files.document(self._key(name), self._subject(name)))
        except FileNotFoundError:
            return self._kind()

    def _verified(self, files: RegistryFiles, name: str, content: bytes | None) -> RecordT:
        if content is None:
            return self._kind()
        files.verify(content, self._key(name), self._subject(name))
        return self._decode(files, name, content)

    def _refuse_older(self, files: RegistryFiles, name: str, stored: RecordT) -> None:
        if files.signer is None:
            return
        if stored.revision < (newest := files.highest_revision(self._noted(name))):
            raise CorruptModel(
                f"the {self._what} of model `{name}` in {files.url} are an old file: revision {stored.revision}, this "
                f"machine has read {newest} before; they were not used: restore the newest one, or vouch for this one "
                "with inflight models sign"
            )
        files.note_revision(self._noted(name), stored.revision)

    def _decode(self, files: RegistryFiles, name: str, content: bytes) -> RecordT:
        try:
            return msgspec.json.decode(content, type=self._kind)
        except (ValueError, RecursionError) as error:
            fix = self._unreadable.format(file=f"{files.url}/{self._key(name)}")
            raise CorruptModel(f"the {self._what} of model `{name}` can't be read ({error!s:.500}): {fix}") from error

    def _noted(self, name: str) -> str:
        """Where the highest revision is noted. No model has a dot in its name."""
        return f"{name}.{self._what}"

    def _key(self, name: str) -> str:
        return f"{name}/{self.file}"

    def _subject(self, name: str) -> str:
        return f"{self._what} of {name}"
