"""A branch's batches one after the other, each read while the one before it is learned from."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from whence.training.task import BatchPlace, Branch, Read, Share


class AheadReader:
    """A branch, where it stands, and its next batch, which is being read."""

    def __init__(self, branch: Branch, reader: ThreadPoolExecutor, share: Share) -> None:
        self.branch, self.place = branch, BatchPlace(0, 0)
        self._reader, self._share = reader, share
        self._ahead: Future[Read] | None = None
        self._begun: int | None = None

    @property
    def is_due(self) -> bool:
        """Whether an epoch begins that must be got ready for."""
        return self.branch.is_mined and self.place.number == 0

    def begin(self, device: torch.device) -> None:
        """Let the branch get ready for the epoch that the next batch is of, once."""
        if self._begun != self.place.epoch:
            self.branch.begin(self.place.epoch, device)
            self._begun = self.place.epoch

    def look_ahead(self) -> None:
        """Begin to read the next batch, unless it is not known yet."""
        self._ahead = None if self.is_due else self._submit()

    def take(self) -> Read:
        """The next batch; the one after it begins to be read."""
        batch = (self._ahead or self._submit()).result()
        epoch, number = self.place
        is_last = number + 1 == self.branch.num_batches(epoch)
        self.place = BatchPlace(epoch + 1, 0) if is_last else BatchPlace(epoch, number + 1)
        self.look_ahead()
        return batch

    def cancel(self) -> None:
        """Give up reading ahead."""
        if self._ahead is not None:
            self._ahead.cancel()

    def _submit(self) -> Future[Read]:
        return self._reader.submit(self.branch.read, self.place, self._share)
