"""Weights & Biases: runs that are online where they can be, and that one of the same address goes on with."""

import netrc
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import WandbLogger

from veil.report.names import logged_names
from veil.storage.progress import console

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

ANSWER = 3.0  # seconds in which a server must answer
INIT = 15.0  # and in which it must know the run
FINISH = 600.0  # and in which it must have everything, at the end


class VeilWandb(WandbLogger):
    """A WandbLogger with names that W&B can sort and filter.

    Args:
        run: an open one.
        originals, masks, weights: whether these may leave the machine.
        again: why the run is offline against the user's wish; empty where it is as it should be.

    """

    def __init__(self, run: "Run", originals: bool, masks: bool, weights: bool, again: str = "") -> None:
        super().__init__(experiment=run)
        self.originals, self.masks, self.weights, self.again = originals, masks, weights, again

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Under names that W&B can sort and filter."""
        super().log_metrics(_renamed(metrics), step)

    def log_hyperparams(self, params: Any) -> None:
        """The same."""
        super().log_hyperparams(_renamed(params))

    def live(self, told: Mapping[str, Any]) -> None:
        """Show how far the work is, under `live/`."""
        self.experiment.log(_renamed({f"live/{name}": value for name, value in told.items()}))

    @property
    def place(self) -> str:
        """What shows the run: its address, or the command that sends it."""
        run = self.experiment
        return f"wandb sync {Path(run.dir).parent}" if run.offline else str(run.url)


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    names = logged_names(values)
    return {names[name]: value for name, value in values.items()}


def wandb_logger(
    name: str,
    id: str,
    group: str | None,
    job_type: str,
    project: str,
    save_dir: str,
    originals: bool = False,
    masks: bool = False,
    weights: bool = False,
) -> VeilWandb:
    """An open run of W&B, which goes on with the one of this `id`. Raises what `wandb.init` does where it cannot even
    be offline.
    """
    import wandb
    from wandb.sdk import wandb_setup

    Path(save_dir).mkdir(parents=True, exist_ok=True)
    settings = wandb_setup.singleton().settings
    agent = settings.sweep_id is not None  # whose run it then is, in its project

    def opened(mode: str) -> "Run":
        return wandb.init(
            name=name,
            id=None if settings.run_id else id,
            project=None if agent else project,
            group=group,
            job_type=job_type,
            dir=save_dir,
            mode=mode,  # type: ignore[arg-type]
            resume="allow",
            reinit="create_new",
            # without what it gathers by itself: what is printed, the command line, folders, packages, who and where
            settings=wandb.Settings(
                silent=True,
                console="off",
                host="private",
                x_disable_meta=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                init_timeout=INIT,
                finish_timeout=FINISH,
                finish_timeout_raises=True,
            ),
        )

    mode, again = settings.mode, ""
    if mode == "online":
        logged_in, reason = connection()
        mode, again = ("offline" if reason else "online"), (reason if logged_in else "")
    if mode == "online":
        try:
            return VeilWandb(opened("online"), originals, masks, weights)
        except failures() as error:
            wandb.teardown()  # else an offline run cannot be opened either (wandb/wandb#9865)
            again = first_line(error)
    logger = VeilWandb(opened("offline" if mode == "online" else mode), originals, masks, weights, again)
    if again:
        say(f"offline, for {again}; the same command tries again, or `{logger.place}`")
    return logger


def connection() -> tuple[bool, str]:
    """Whether W&B finds a key of the user; and why no run can be online, empty where one can."""
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib.wbauth import authenticate_session

    url = wandb_setup.singleton().settings.base_url
    try:
        auth = authenticate_session(host=url, source="veil", prompt=False, update_session=False)
    except AuthenticationError as error:
        return True, first_line(error)
    if auth is None:
        return False, "nobody is logged in (`wandb login`)"
    return True, "" if _answers(url) else f"{url} does not answer"


def _answers(url: str) -> bool:
    """Whether a server answers anything, in `ANSWER` seconds; looking up its name, too, may hang."""
    answered = threading.Event()

    def ask() -> None:
        with suppress(OSError, HTTPException):  # no answer
            try:
                urllib.request.urlopen(url, timeout=ANSWER).close()
            except urllib.error.HTTPError as error:  # an answer
                error.close()
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER)
    return answered.is_set()


def failures() -> tuple[type[Exception], ...]:
    """What loggers raise when a disk, a file of credentials, a server or W&B's service fails."""
    found: tuple[type[Exception], ...] = (OSError, ValueError, netrc.NetrcParseError)
    if "wandb" in sys.modules:
        import wandb
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        found += (wandb.Error, HandleAbandonedError, MailboxClosedError)
    return found


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def say(text: str) -> None:
    """Print a line about W&B."""
    console.print(f"W&B:      {text}", soft_wrap=True, markup=False, highlight=False)
