"""The APIs of Amazon Bedrock that embeddings need: `bedrock-runtime`, and of `bedrock` the list of models.

1. The models are those of `whimbrel.embeddings`; nothing here embeds.
2. An answer of a model names, in a header, the model that really answered.
3. Requests and answers have the forms of AWS's documentation; what it does not say is our choice, and
   `docs/reference/bedrock.md` says so.
"""

from whimbrel.wire.bedrock.protocol import FIRST_PARTS, BedrockProtocol

__all__ = ["FIRST_PARTS", "BedrockProtocol"]
