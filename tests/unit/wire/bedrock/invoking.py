"""InvokeModel against the real application, with a model that counts letters."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from tests.unit.wire.endpoint import Endpoint, Reply
from whimbrel.embeddings import PassThrough, Provider
from whimbrel.testing.embedding import LetterProvider, letter_models

TITAN_V2 = "amazon.titan-embed-text-v2:0"
TITAN_V1 = "amazon.titan-embed-text-v1"
TITAN_IMAGE = "amazon.titan-embed-image-v1"
COHERE_V3 = "cohere.embed-english-v3"
COHERE_V4 = "cohere.embed-v4:0"
PNG = b"\x89PNG\r\n\x1a\n and the rest"
PNG_TEXT = base64.b64encode(PNG).decode()
PNG_URI = f"data:image/png;base64,{PNG_TEXT}"


@dataclass
class Client:
    """Asks one endpoint."""

    provider: Provider | PassThrough = field(default_factory=LetterProvider)
    models: Any = None

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(models=self.models or letter_models(self.provider))

    def invoke(self, model_id: str, body: Any, **kwargs: Any) -> Reply:
        """Asks a model, with a JSON body or with bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.endpoint.request("POST", f"/model/{model_id}/invoke", data, **kwargs)

    def answer(self, model_id: str, body: Any) -> Any:
        """Returns the answer of a model that has one."""
        reply = self.invoke(model_id, body)
        assert reply.status == 200, reply.body
        return reply.json

    def refusal(self, model_id: str, body: Any) -> str:
        """Returns why a request was refused."""
        reply = self.invoke(model_id, body)
        assert (reply.status, reply.code) == (400, "ValidationException"), reply.body
        assert reply.json == {"message": reply.message}
        return reply.message
