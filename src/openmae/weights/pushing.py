"""Folders of weights uploaded to the Hugging Face hub."""

from pathlib import Path

from openmae.errors import UserError, one_line
from openmae.reporter import say
from openmae.weights.containers import CONFIG, PREPROCESSOR
from openmae.weights.foreign_files import CARD, MODEL
from openmae.weights.hub import SCHEME, HubModel

UPLOADED = (MODEL, CONFIG, PREPROCESSOR, CARD)
"""Nothing else leaves this machine, whatever lies in the folder."""
LOGIN = "run `hf auth login` with a token that may write"


def require_address(repository: str) -> str:
    """owner/name, or UserError."""
    model = HubModel.parse(repository)
    if model.inside or model.revision != "main":
        raise UserError(f"{repository} names more than a model; give --push owner/name")
    return model.repository


def push_folder(folder: Path, repository: str) -> str:
    """Upload a folder of weights, and create the model where there is none yet; returns its address.

    Raises:
        UserError: when there is no token, it may not write there, or the hub cannot be reached. The folder stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    again = f"the folder {folder} is complete, and `hf upload {repository} {folder}` uploads it"
    say(f"uploading {folder} to {SCHEME}{repository}")
    api = HfApi(library_name="openmae")
    try:
        url = api.create_repo(repository, repo_type="model", exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(UPLOADED),
            commit_message="Weights written by OpenMAE",
        )
    except LocalTokenNotFoundError as error:
        raise UserError(f"the hub does not know who you are; {LOGIN}: {again}") from error
    except HFValidationError as error:
        raise UserError(f"the hub takes no model called {repository} ({one_line(error)[:120]}); {again}") from error
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", None)
        if code == 401:
            raise UserError(f"the hub does not accept your token; {LOGIN}: {again}") from error
        if code in (403, 404):
            raise UserError(f"you may not write to {repository} on the hub; {LOGIN} there: {again}") from error
        raise UserError(f"the hub refuses {repository} ({one_line(error)[:120]}); {again}") from error
    except Exception as error:  # its network clients each have their own
        raise UserError(f"the hub cannot be reached ({one_line(error)[:120]}); {again}") from error
    return str(url)
