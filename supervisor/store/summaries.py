"""What conversations are summed up to, where more was said in one than its handler can take in."""

from __future__ import annotations

from supervisor.core.history import Remembered
from supervisor.core.records import JournaledMessage
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect import JournalQuestions, TextCodec
from supervisor.store.dialect.operations import KeepSummary
from supervisor.store.dialect.stored import StoredSummary


class ConversationSummaries:
    """The table ``conversation_summaries``: one for each conversation at most.

    Each is encrypted, erased and pruned with the messages that it stands for.

    Args:
        texts: how they are stored, encrypted or not.
    """

    def __init__(self, questions: JournalQuestions, committer: GroupCommitter, texts: TextCodec) -> None:
        self._questions = questions
        self._committer = committer
        self._texts = texts

    async def of(self, agent_id: str, conversation_id: str) -> Remembered | None:
        """What stands for the beginning of an agent's conversation, if anything that can be read does.

        Raises:
            RegistryError: the registry cannot be read.
        """
        stored = await self._questions.summary(agent_id, conversation_id)
        return None if stored is None else self._texts.read_summary(stored)

    async def keep(self, row: JournaledMessage, summary: Remembered) -> bool:
        """Keep a summary of a message's conversation; whether that was done.

        It is not where the message was erased meanwhile, or where what is kept stands for more already.

        Args:
            row: the message that was answered when it was made.

        Raises:
            RegistryError: it cannot be written.
        """
        body = self._texts.summary(summary.text)
        operation = KeepSummary(
            agent_id=row.agent_id,
            conversation_id=row.conversation_id,
            asked_id=row.id,
            summary=StoredSummary(body, summary.up_to_id, summary.since),
        )
        kept: bool = await self._committer.commit(operation)
        return kept
