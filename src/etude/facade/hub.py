"""The Trainer's methods that share the model: its card, and pushing it to a model hub."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from etude import saving
from etude.checkpoint.storage import local_folder
from etude.core.names import HubStrategy, SaveStrategy
from etude.errors import ConfigurationError
from etude.facade.base import TrainerAttributes
from etude.facade.files import FileMethods
from etude.hub import card, push
from etude.hub.client import PushInProgress, create_repository, first_line, in_background

logger = logging.getLogger(__name__)


class HubMethods(FileMethods):
    """Sharing the model. Only the main process talks to the hub."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the model, what prepares its inputs, and the arguments; pushes it if `args.push_to_hub`.

        Call it on every process.

        Args:
            output_dir: the folder; `args.output_dir`, whose content is what is pushed, if not given.
        """
        super().save_model(output_dir, _internal_call)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Makes the repository that is pushed to, unless it is there; sets `hub_model_id` to its full name.

        Args:
            token: an access token; `args.hub_token`, or the one that is logged in, if not given.
            private: whether a new repository is private; `args.hub_private_repo` if not given.

        Raises:
            ConfigurationError: no name for it is given, and the output folder has none.
            HubError: the hub refused, or cannot be reached.
        """
        if not self.args.world.is_main:
            return
        name = self.args.hub_model_id or _folder(self).absolute().name
        if not name:
            raise ConfigurationError("`push_to_hub` needs a name for the repository: set `hub_model_id`.")
        self.hub_model_id = create_repository(
            name,
            self.args.hub_token if token is None else token,
            self.args.hub_private_repo if private is None else private,
            self.args.hub_revision,
        )
        self.push_in_progress = None
        push.remove_snapshots(_folder(self))

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Writes `README.md` to the output folder: what the model is, its results, and how it was trained.

        A text that a person has written there stays, and gets the metadata. What is not given is inferred where that
        is possible; nothing is looked up on the network.

        Args:
            language: of the model.
            license: of the model.
            tags: labels of the model.
            model_name: its title; the output folder's name if not given.
            finetuned_from: the model that it was made from.
            tasks: identifiers of what it does, such as "text-classification".
            dataset_tags: identifiers of its data sets.
            dataset: names of them, to be read.
            dataset_args: configurations of them.
        """
        if not self.args.world.is_main:
            return
        given = card.Given(
            language, license, card.as_list(tags), model_name, finetuned_from,
            card.as_list(tasks), card.as_list(dataset_tags), card.as_list(dataset), card.as_list(dataset_args),
        )  # fmt: skip
        card.write(self, given, _folder(self) / "README.md")
        saving.deliver(self)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Saves the model and its card, and pushes the output folder without checkpoints. Call it on every process.

        Args:
            commit_message: of the commit.
            blocking: wait for the end of it.
            token: an access token; `args.hub_token`, or the one that is logged in, if not given.
            revision: the branch to push to; `args.hub_revision` if not given.
            private: whether a new repository is private; `args.hub_private_repo` if not given.
            **kwargs: arguments of `create_model_card`.

        Returns:
            What the hub says of the commit, or a future of it if not `blocking`; None on other processes.
        """
        args = self.args
        self.callback_handler.on_push_begin(args, self.state, self.control)
        token = args.hub_token if token is None else token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not args.world.is_main:
            return None
        model_name = (
            kwargs.pop("model_name", None) or (args.hub_model_id or _folder(self).name).split("/")[-1]
        )
        own_tags = card.as_list(getattr(self.model, "model_tags", None))
        if own_tags:
            kwargs["tags"] = list(dict.fromkeys([*card.as_list(kwargs.get("tags")), *own_tags]))
        self.create_model_card(model_name=model_name, **kwargs)
        self._finish_current_push()
        to = push.Destination(
            str(self.hub_model_id), token, args.hub_revision if revision is None else revision
        )
        if blocking:
            return to.upload(_folder(self), commit_message or "End of training")
        message = commit_message or "End of training"
        job = in_background(lambda: to.upload(_folder(self), message), _folder(self).name)
        self.push_in_progress = PushInProgress([job])
        return job

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Begins to push a checkpoint that was just saved, as `args.hub_strategy` says."""
        args = self.args
        if not args.world.is_main or args.hub_strategy == HubStrategy.END:
            return
        current = self.push_in_progress
        busy = current is not None and not current.is_done()
        if busy and not args.hub_always_push:
            logger.warning(
                "%s is not pushed: the last push is still on its way. (hub_always_push=True pushes them all.)",
                checkpoint_folder,
            )
            return
        self.callback_handler.on_push_begin(args, self.state, self.control)
        by_step = args.save_strategy == SaveStrategy.STEPS
        when = f"step {self.state.global_step}" if by_step else f"epoch {int(self.state.epoch or 0)}"
        checkpoint = Path(checkpoint_folder)
        inside = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: checkpoint.name}
        job = push.checkpoint_push(
            push.Destination(str(self.hub_model_id), args.hub_token, args.hub_revision),
            _folder(self),
            checkpoint,
            f"Training in progress, {when}",
            inside.get(HubStrategy(args.hub_strategy)),
        )
        if current is None or not busy:
            current = self.push_in_progress = PushInProgress()
        current.jobs.append(in_background(job, checkpoint_folder))

    def _finish_current_push(self) -> None:
        """Waits for the push in progress, and says so if the hub has not got it."""
        if self.push_in_progress is None:
            return
        if not self.push_in_progress.is_done():
            logger.info("Waiting for the push in progress.")
        self.push_in_progress.wait_until_done()
        error = self.push_in_progress.last_error()
        if error is not None:
            logger.error(
                "The last push to %s failed, the hub has not got the newest model: %s "
                "`trainer.push_to_hub()` tries again.",
                self.hub_model_id,
                first_line(error),
            )


def _folder(trainer: TrainerAttributes) -> Path:
    return Path(local_folder(str(trainer.args.output_dir)))
